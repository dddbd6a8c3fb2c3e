"""From rows to batches: captions, boxes, crops, bad rows, a teacher's inputs, and that all of it repeats."""

import numpy as np
import pytest
import torch

from hf_encoders import DepthImageProcessor
from hf_encoders.losses.contrastive import stable_ids
from hf_encoders.models.text_reading import TextReading
from hf_encoders.training.multimodal.arguments import DataArguments
from hf_encoders.training.multimodal.rows import load_rows
from hf_encoders.training.multimodal.samples import (
    BadSample,
    Collate,
    ModelInputs,
    SampleMaker,
    Samples,
    StreamedSamples,
)
from hf_encoders.training.multimodal.views import check_jitter, check_pairs
from tests.helpers.multimodal_models import SIZE, tiny_model, tiny_processor
from tests.helpers.training_files import PICTURE, image_folder, png


def maker(seed=0, **options):
    options = DataArguments(**{"depth_column": "", "image_column": "image"} | options)
    return SampleMaker(options, ModelInputs(tiny_processor(), TextReading(16)), seed)


def inputs(make, made):
    """What the model gets of one sample."""
    return {name: values[0] for name, values in Collate(make)([made])["inputs"].items()}


def sample(row, index=0, epoch=0, seed=0, **options):
    return maker(seed, **options)(row, index, epoch)


def test_each_epoch_takes_one_of_several_captions():
    row = {"caption": ["a", "b", "c"], "image": {"bytes": png(PICTURE)}}
    taken = [sample(row, epoch=epoch)["caption"] for epoch in range(30)]
    assert set(taken) == {"a", "b", "c"}
    assert taken == [sample(row, epoch=epoch)["caption"] for epoch in range(30)]
    assert taken != [sample(row, epoch=epoch, seed=1)["caption"] for epoch in range(30)]


def test_image_and_depth_are_cut_alike():
    ramp = np.tile(np.linspace(1, 200, 64), (64, 1))
    row = {
        "caption": "a",
        "image": {"bytes": png(np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8))},
        "depth": {"bytes": png(ramp.astype(np.uint16))},
    }
    options = {"depth_column": "depth", "image_scale": 0.3}
    make = maker(**options)
    make.inputs.processor.depth_image_processor = DepthImageProcessor(
        size=SIZE, normalization="range", value_range=[0, 255], invalid_values=[]
    )
    for epoch in range(5):
        made = inputs(make, make(row, 0, epoch))
        # Both are 2 x / 255 - 1 of the same numbers.
        assert (made["pixel_values"][0] - made["depth_values"][0]).abs().max() < 0.03
        assert made["pixel_values"][0].max() - made["pixel_values"][0].min() < 1.5  # a part of the ramp
    whole = inputs(make, sample(row, depth_column="depth"))
    assert whole["depth_values"].min() == -1 and whole["depth_values"].max() == 1


def test_another_light_and_another_distance_leave_hues():
    row = {
        "caption": "a",
        "image": {"bytes": png(np.full((64, 64, 3), (180, 90, 45), np.uint8))},
        "depth": {"bytes": png(np.full((64, 64), 100, np.uint16))},
    }
    make = maker(depth_column="depth", image_brightness=0.3, depth_scale=0.2)
    make.inputs.processor.depth_image_processor = DepthImageProcessor(
        size=SIZE, normalization="range", value_range=[0, 200], invalid_values=[]
    )
    seen = [make(row, 0, epoch) for epoch in range(20)]
    colours = np.stack([np.asarray(made["image"])[0, 0] for made in seen]).astype(float)
    red, green, blue = colours.T
    assert np.ptp(red) > 50 and np.abs((green - blue) / (red - blue) - 1 / 3).max() < 0.05
    metres = [(made["depth"].max().item() + 1) * 100 for made in seen]
    assert 80 <= min(metres) < 90 and 110 < max(metres) <= 120.001
    still = [maker(depth_column="depth")(row, 0, epoch) for epoch in range(2)]
    assert np.array_equal(still[0]["image"], still[1]["image"]) and torch.equal(still[0]["depth"], still[1]["depth"])


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, -0.1)])
def test_a_share_that_is_none_is_refused(shares):
    with pytest.raises(ValueError, match="expected a share from 0, and under 1"):
        check_jitter(*shares, None)


def test_a_distance_that_the_processor_takes_out_is_refused():
    check_jitter(0, 0.1, DepthImageProcessor(size=SIZE, normalization="range", value_range=[0, 8]))
    with pytest.raises(ValueError, match="--depth_scale: has no effect where each map is stretched"):
        check_jitter(0, 0.1, DepthImageProcessor(size=SIZE))


def test_mirrored_pictures_have_true_captions():
    ramp = np.tile(np.linspace(1, 200, 64), (64, 1))
    row = {
        "caption": "a lamp left of the bed; Right of it a leftover",
        "image": {"bytes": png(np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8))},
        "depth": {"bytes": png(ramp.astype(np.uint16))},
    }
    make = maker(depth_column="depth", mirror_words=["left", "right"], image_scale=0.5)
    make.inputs.processor.depth_image_processor = DepthImageProcessor(
        size=SIZE, normalization="range", value_range=[0, 255], invalid_values=[]
    )
    seen = set()
    for epoch in range(20):
        made = make(row, 0, epoch)
        pixels, depth = (inputs(make, made)[name][0] for name in ("pixel_values", "depth_values"))
        is_mirrored = bool(pixels[0, 0] > pixels[0, -1])
        assert is_mirrored == bool(depth[0, 0] > depth[0, -1])
        mirrored = "a lamp right of the bed; Left of it a leftover"
        assert made["caption"] == (mirrored if is_mirrored else row["caption"])
        seen.add(is_mirrored)
    assert seen == {True, False}
    usual = [sample(row, epoch=epoch, depth_column="depth") for epoch in range(20)]
    assert {made["caption"] for made in usual} == {row["caption"]}
    assert all(torch.equal(made["depth"], usual[0]["depth"]) for made in usual)


def test_a_mirrored_box_is_painted_where_it_is():
    row = {"caption": "a", "image": {"bytes": png(PICTURE)}, "objects": [{"box": [0, 0, 0.5, 1]}]}
    make = maker(boxes_column="objects.box", mirror_words=["left", "right"])
    sides = set()
    for epoch in range(12):
        (masked,) = Collate(make)([make(row, 0, epoch)])["masked"]
        half = SIZE // 2
        sides.add("left" if (masked[:, :, : half - 1] == -1).all() else "right")
        assert (masked[:, :, : half - 1] == -1).all() or (masked[:, :, half + 1 :] == -1).all()
    assert sides == {"left", "right"}


@pytest.mark.parametrize("words", [["left"], ["left", "Left"], ["left", "right", "left", "east"], ["left", " "]])
def test_words_that_are_no_pairs_are_refused(words):
    with pytest.raises(ValueError, match="--mirror_words .*: give pairs of words that change places"):
        check_pairs(words)


def test_masked_copies_have_their_boxes_painted():
    row = {"caption": "a", "image": {"bytes": png(PICTURE)}, "objects": [{"box": [0, 0, 0.5, 1]}]}
    make = maker(boxes_column="objects.box")
    batch = Collate(make)([make(row, 0, 0), make(row | {"objects": []}, 1, 0)])
    (masked,), (pixels, _) = batch["masked"], batch["inputs"]["pixel_values"]
    half = SIZE // 2
    assert (masked[:, :, : half - 1] == -1).all()
    assert torch.equal(masked[:, :, half + 1 :], pixels[:, :, half + 1 :])


@pytest.mark.parametrize(
    "row",
    [
        {"caption": "a", "image": {"bytes": png(PICTURE)[:300]}},
        {"caption": "a", "image": {"bytes": b""}},
        {"caption": "a", "image": None},
        {"caption": None, "image": {"bytes": png(PICTURE)}},
        {"caption": [], "image": {"bytes": png(PICTURE)}},
    ],
)
def test_what_cannot_be_read_is_a_bad_sample(row):
    found = sample(row, index=5)
    assert isinstance(found, BadSample) and found.index == 5 and found.reason


def test_a_batch():
    rows = [{"caption": text, "image": {"bytes": png(PICTURE)}} for text in ("a red chair", "a lamp")]
    samples = [sample(row, index) for index, row in enumerate(rows)]
    batch = Collate(maker(boxes_column="boxes"))([samples[0], BadSample(9, "why"), samples[1]])
    assert batch["inputs"]["input_ids"].shape == (2, 5) and batch["inputs"]["pixel_values"].shape == (2, 3, SIZE, SIZE)
    assert batch["rows"] == [0, 1] and batch["bad"] == [BadSample(9, "why")]
    assert torch.equal(batch["ids"]["text"], stable_ids(["a red chair", "a lamp"]))
    assert batch["ids"]["image"].tolist() == stable_ids([0, 1]).tolist()
    assert batch["masked"].shape == (0, 3, SIZE, SIZE)
    empty = Collate(maker())([BadSample(9, "why")])
    assert empty["rows"] == [] and empty["inputs"] == {} and empty["bad"]


def test_rows_of_one_id_are_the_same_picture():
    row = {"caption": "a", "image": {"bytes": png(PICTURE)}, "scene": "room 7"}
    samples = [sample(row, index, id_column="scene") for index in range(2)]
    ids = Collate(maker())(samples)["ids"]["image"]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 0), (2, 2)])
def test_a_stream_is_divided_without_loss(tmp_path, processes, workers):
    image_folder(tmp_path)
    options = DataArguments(dataset=[str(tmp_path)], streaming=True)
    rows, make = load_rows(options, "train"), SampleMaker(options, ModelInputs(tiny_processor(), TextReading(16)), 0)
    found = []
    for process in range(processes):
        stream = StreamedSamples(rows, make, 10, process, processes)
        found += [one["caption"] for one in torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers)]
    assert sorted(found) == ["train 0", "train 1", "train 2"]


def test_samples_change_with_the_epoch():
    row = {"caption": ["a", "b", "c", "d"], "image": {"bytes": png(PICTURE)}}
    samples = Samples([row] * 8, maker())
    first = [samples[index]["caption"] for index in range(8)]
    samples.set_epoch(1)
    assert first != [samples[index]["caption"] for index in range(8)] and len(samples) == 8


def test_a_teacher_gets_the_same_view_in_its_own_sizes():
    teacher = ModelInputs.of(tiny_model(depth=False))
    teacher.processor.image_processor.size = {"height": 8, "width": 8}
    row = {
        "caption": ["a red chair", "a lamp"],
        "image": {"bytes": png(PICTURE)},
        "depth": {"bytes": png(PICTURE[..., 0])},
    }
    make = maker(depth_column="depth", image_scale=0.3)
    make.teacher = teacher
    made = [make(row, index, 0) for index in range(6)]
    batch = Collate(make)(made)
    assert batch["teacher_inputs"]["pixel_values"].shape == (6, 3, 8, 8) and "depth_values" in batch["inputs"]
    assert "depth_values" not in batch["teacher_inputs"]
    assert torch.equal(batch["teacher_inputs"]["input_ids"], batch["inputs"]["input_ids"])
    small = torch.nn.functional.interpolate(batch["inputs"]["pixel_values"], (8, 8), mode="bilinear", antialias=True)
    assert (small - batch["teacher_inputs"]["pixel_values"]).abs().mean() < 0.05  # of the same crops


def test_a_depth_map_that_is_a_file_is_cut_as_its_image(tmp_path):
    ramp = np.tile(np.linspace(1, 60000, 64), (64, 1)).astype(np.uint16)
    (tmp_path / "depth.png").write_bytes(png(ramp))
    rows = [
        {"caption": "a", "image": {"bytes": png(PICTURE)}, "depth": depth}
        for depth in (str(tmp_path / "depth.png"), {"bytes": png(ramp)}, png(ramp))
    ]
    made = [
        inputs(maker(depth_column="depth", image_scale=0.3), sample(row, depth_column="depth", image_scale=0.3))
        for row in rows
    ]
    assert torch.equal(made[0]["depth_values"], made[1]["depth_values"])
    assert torch.equal(made[0]["depth_values"], made[2]["depth_values"])
    whole = inputs(maker(depth_column="depth"), sample(rows[0], depth_column="depth"))
    assert not torch.equal(made[0]["depth_values"], whole["depth_values"])


def test_a_picture_that_cannot_be_read_is_named_by_its_file():
    for image, says in (
        ("photos/1.png", "photos/1.png: no such file"),
        ({"bytes": b"x", "path": "photos/1.png"}, "photos/1.png: not an image of a kind that Pillow reads"),
        ({"bytes": None, "path": "photos/1.png"}, "photos/1.png: no such file"),
        (b"x", "not an image of a kind that Pillow reads"),
    ):
        assert sample({"caption": "a", "image": image}, index=5) == BadSample(5, says)


@pytest.mark.parametrize("flags", [{}, {"reads_padding": True}, {"pads_to_limit": True}], ids=str)
def test_texts_are_read_as_encode_reads_them(flags):
    """Cut at the tokenizer's limit where that is less than the network's, and padded as the network wants it."""
    model = tiny_model()
    model.processor.tokenizer.model_max_length = 6
    for name, value in flags.items():
        setattr(model.text_encoder.config, name, value)
    texts = ["a red chair beside a blue lamp and a table", "a chair"]
    trained, encoded = ModelInputs.of(model).batch(texts, [], []), model.tower("text").prepare(texts)
    assert trained.keys() == encoded.keys() and all(torch.equal(trained[name], encoded[name]) for name in trained)
    assert trained["input_ids"].shape == (2, 6) and ("attention_mask" in trained) == (not flags.get("reads_padding"))
