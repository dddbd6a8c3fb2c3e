"""Views of single objects: the part around a box, the same of image and depth map, with the object's caption."""

import numpy as np
import pytest
from datasets import ClassLabel, Features, List, Value

from hf_encoders.models.text_reading import TextReading
from hf_encoders.training.multimodal.arguments import DataArguments
from hf_encoders.training.multimodal.regions import Regions, make_regions
from hf_encoders.training.multimodal.samples import BadSample, ModelInputs, SampleMaker
from hf_encoders.training.multimodal.views import View
from tests.helpers.multimodal_models import tiny_processor
from tests.helpers.training_files import png

# A bright square from 48 to 80 of 128 pixels, the same in image and depth map.
SQUARE = np.zeros((128, 128))
SQUARE[48:80, 48:80] = 1
BOX = [0.375, 0.375, 0.625, 0.625]
ROW = {
    "caption": "a scene",
    "image": {"bytes": png(np.repeat(SQUARE[..., None] * 255, 3, axis=2).astype(np.uint8)), "path": None},
    "depth": {"bytes": png((SQUARE * 1000).astype(np.uint16) + 1000), "path": None},
    "objects": [{"name": "lamp", "color": "orange", "box": BOX}],
}
CAPTION = "{color!a} {name}"


def make(row=ROW, epochs=range(20), **options):
    options = {"depth_column": "depth", "regions_column": "objects.box", "region_captions": [CAPTION]} | options
    maker = SampleMaker(DataArguments(**options), ModelInputs(tiny_processor(), TextReading(16)), 0)
    return [maker(row, 0, epoch) for epoch in epochs]


def test_a_share_of_the_views_is_of_one_object():
    seen = [made["caption"] for made in make(epochs=range(200), region_share=0.25)]
    assert set(seen) == {"a scene", "an orange lamp"} and 30 < seen.count("an orange lamp") < 70
    assert {made["caption"] for made in make({**ROW, "objects": []}, region_share=1)} == {"a scene"}
    assert {made["caption"] for made in make(regions_column="", region_captions=[])} == {"a scene"}


def test_a_view_takes_one_of_several_captions():
    captions = [CAPTION, "{name!a}", "{color} {name!h}"]
    row = {**ROW, "objects": [{**ROW["objects"][0], "name": "outdoor lamp"}]}
    seen = {made["caption"] for made in make(row, range(40), region_share=1, region_captions=captions)}
    assert seen == {"an orange outdoor lamp", "an outdoor lamp", "orange lamp"}


@pytest.mark.parametrize("box", [BOX, [48, 48, 80, 80]], ids=["relative", "pixels"])
def test_the_object_fills_the_view_of_image_and_depth_map_alike(box):
    row = {**ROW, "objects": [{"name": "lamp", "color": "orange", "box": box}]}
    for made in make(row, region_share=1):
        image = np.asarray(made["image"])[..., 0] > 127
        assert 1 / 1.6**2 - 0.05 < image.mean() <= 1
        depth = made["depth"][0].numpy()
        inside = depth > (depth.min() + depth.max()) / 2 if image.mean() < 1 else np.ones_like(depth, bool)
        assert abs(inside.mean() - image.mean()) < 0.1


def test_a_view_stays_within_the_pictures():
    rng = np.random.default_rng(0)
    for box in ([0, 0, 0.05, 0.1], [0.9, 0.9, 1, 1], [0, 0, 1, 1], [-0.2, 0.5, 0.1, 1.2]):
        for _ in range(20):
            view = View.around(rng, box)
            assert 0.2 <= view.side <= 1 and 0 <= view.left <= 1 - view.side and 0 <= view.top <= 1 - view.side


def test_classes_of_objects_have_their_names():
    features = Features({"objects": List({"kind": ClassLabel(names=["light", "seat"]), "box": List(Value("float32"))})})
    regions = Regions("objects.box", ["{kind!a}"], 1, features)
    assert regions.choose({"objects": [{"kind": 1, "box": BOX}]}, np.random.default_rng(0)).caption == "a seat"


@pytest.mark.parametrize(
    ("column", "caption", "says"),
    [
        (
            "objects.bx",
            "{kind}",
            "--regions_column objects.bx: the objects in column 'objects' have no 'bx', but kind, box",
        ),
        ("objects.box", "{knd}", "--region_captions: the objects in column 'objects' have no 'knd'"),
    ],
)
def test_values_that_no_object_has_are_refused(column, caption, says):
    features = Features({"objects": List({"kind": Value("string"), "box": List(Value("float32"))})})
    with pytest.raises(ValueError, match=says):
        Regions(column, [caption], 1, features)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"name": "lamp", "color": None, "box": BOX}, "lacks a value of '{color!a} {name}'"),
        ({"name": "lamp", "color": "red", "box": [0.5, 0, 0.1, 1]}, r"is \[0.5, 0.0, 0.1, 1.0\], expected \[x1"),
        ({"name": "lamp", "color": "red", "box": [0, 1]}, "expected"),
        ({"name": "lamp", "color": "red"}, "KeyError: 'box'"),
    ],
)
def test_an_object_that_cannot_be_seen_makes_a_bad_row(item, says):
    (made,) = make({**ROW, "objects": [item]}, [0], region_share=1)
    assert isinstance(made, BadSample)
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(made.reason)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"regions_column": "objects.box"}, "--regions_column needs --region_captions"),
        ({"region_captions": ["a {name}"]}, "--region_captions are for the objects of --regions_column"),
        ({"regions_column": "objects", "region_captions": ["a {name}"]}, "what their box is called: objects.box"),
        ({"regions_column": "o.box", "region_captions": ["a {name}"], "region_share": 0.0}, "--region_share 0.0"),
        ({"regions_column": "o.box", "region_captions": ["a lamp"]}, "name columns in braces"),
    ],
)
def test_options_that_ask_for_half_of_it_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        make_regions(DataArguments(**options))
