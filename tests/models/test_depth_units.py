"""Units of depth maps: what raw values mean, per call and by preset, and the warning where they mean something else."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModel

from hf_encoders import DepthImageProcessor, DepthMapError
from hf_encoders.models.depth_units import PRESETS, DepthRangeWarning, RangeCheck
from tests.conftest import SAMPLES

ROOMS = SAMPLES / "multimodal-rooms"
# How each preset stores metres.
STORED = {
    "nyu": lambda metres: metres.astype(np.float32),
    "nyu-png": lambda metres: np.round(metres * 1000).astype(np.uint16),
    "scannet": lambda metres: np.round(metres * 1000).astype(np.uint16),
    "sunrgbd": lambda metres: rotated_left(np.round(metres * 1000).astype(np.uint16)),
    "kitti": lambda metres: np.round(metres * 256).astype(np.uint16),
    "tum": lambda metres: np.round(metres * 5000).astype(np.uint16),
    "icl-nuim": lambda metres: np.round(metres * 5000).astype(np.uint16),
    "habitat": lambda metres: metres.astype(np.float32),
    "habitat-normalized": lambda metres: (metres / 10).astype(np.float32),
    "ros-32fc1": lambda metres: np.where(metres > 0, metres, np.nan).astype(np.float32),
    "ros-16uc1": lambda metres: np.round(metres * 1000).astype(np.uint16),
}


def rotated_left(values):
    return (values << 3 | values >> 13).astype(np.uint16)


@pytest.fixture(scope="module")
def model():
    return AutoModel.from_pretrained(ROOMS)


@pytest.fixture(scope="module")
def millimetres():
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet")).select(range(40))
    return [np.asarray(depth).astype(np.uint16) for depth in rows["depth"]]


@pytest.fixture
def scene():
    """A room of 1.2 to 6.5 metres, with a hole that was not measured."""
    y, x = np.mgrid[:96, :128] / 100
    metres = 1.2 + 4 * x + np.sin(5 * y) ** 2
    metres[40:50, 60:70] = 0
    return metres


def said(call):
    """The result, and the warnings about depth."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(one.message) for one in caught if issubclass(one.category, DepthRangeWarning)]


def cosine(one, other):
    return torch.nn.functional.cosine_similarity(one, other).min()


def test_every_preset_has_a_test():
    assert STORED.keys() == PRESETS.keys()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_scene_has_one_embedding_in_every_unit(model, scene, preset):
    expected = model.encode_depth([scene], unit_scale=1)
    found, warned = said(lambda: model.encode_depth([STORED[preset](scene)], preset=preset))
    assert cosine(found, expected) > 0.999 and not warned
    processor = DepthImageProcessor.from_preset(preset, like=model.depth_processor)
    assert cosine(model.encode_depth(processor([STORED[preset](scene)])), expected) > 0.999
    # The name is that of the data set, however it is written.
    assert (
        cosine(model.encode_depth([STORED[preset](scene)], preset=preset.upper().replace("-", "_")), expected) > 0.999
    )


def test_other_units_are_given_as_a_scale(model, scene):
    expected = model.encode_depth([scene], unit_scale=1)
    centimetres, feet = np.round(scene * 100).astype(np.uint16), (scene / 0.3048).astype(np.float32)
    marked = np.where(scene > 0, scene, -1)
    assert cosine(model.encode_depth([centimetres], unit_scale=0.01), expected) > 0.999
    assert cosine(model.encode_depth([feet], unit_scale=0.3048), expected) > 0.999
    assert cosine(model.encode_depth([marked], unit_scale=1, invalid_values=[-1]), expected) > 0.999
    tensor = torch.tensor(scene, dtype=torch.float32)[None, None]  # four dimensions: raw where units are given
    assert cosine(model.encode_depth(tensor, unit_scale=1), expected) > 0.999
    nearer = model.encode_depth([scene], unit_scale=1, value_range=[0, 4])
    assert cosine(nearer, expected) < 0.999
    assert cosine(model.encode_depth([scene], unit_scale=1), expected) > 0.9999  # a call changes no other


def test_a_preset_alone_makes_a_processor_of_its_own():
    kitti = DepthImageProcessor.from_preset("kitti")
    assert (kitti.unit_scale, kitti.normalization, kitti.value_range) == (1 / 256, "range", [0, 80])
    assert DepthImageProcessor.from_preset("kitti", value_range=[0, 8]).value_range == [0, 8]
    assert DepthImageProcessor.from_preset("SUN_RGB-D").bit_rotation == 3
    with pytest.raises(ValueError, match="preset is one of nyu, .*got 'kity'"):
        DepthImageProcessor.from_preset("kity")
    with pytest.raises(DepthMapError, match="map 0: values of torch.float64, expected 16-bit integers"):
        DepthImageProcessor.from_preset("sunrgbd")(np.ones((4, 4)))
    with pytest.raises(DepthMapError, match="beyond 16 bits"):
        DepthImageProcessor.from_preset("sunrgbd")(np.full((4, 4), 70000))


def test_units_of_prepared_maps_are_refused(model, scene):
    prepared = model.depth_processor([scene], unit_scale=1)
    with pytest.raises(ValueError, match="unit_scale: for raw depth maps"):
        model.encode_depth(prepared, unit_scale=1)


@pytest.mark.parametrize(
    "wrong",
    {
        "metres": lambda depth: depth / 1000,
        "single metres": lambda depth: (depth / 1000).astype(np.float32),
        "images of metres": lambda depth: Image.fromarray((depth / 1000).astype(np.float32)),
        "tensors of metres": lambda depth: torch.tensor(depth / 1000),
        "centimetres": lambda depth: np.round(depth / 10).astype(np.uint16),
        "feet": lambda depth: (depth / 304.8).astype(np.float32),
        "kitti": lambda depth: np.round(depth * 0.256).astype(np.uint16),
        "tum": lambda depth: np.minimum(depth.astype(np.uint32) * 5, 65534).astype(np.uint16),
    }.items(),
    ids=lambda item: item[0],
)
def test_depths_that_lie_elsewhere_are_warned_of_once_with_both_numbers(model, millimetres, wrong):
    _, warned = said(lambda: model.encode_depth([wrong[1](depth) for depth in millimetres], batch_size=8))
    assert len(warned) == 1
    median = np.median(np.concatenate([np.asarray(wrong[1](depth)).ravel() for depth in millimetres])) / 1000
    first = float(warned[0].split()[2])
    assert (
        first == pytest.approx(median, rel=0.1) and f"{model.depth_processor.value_percentiles[1]:.3g} m" in warned[0]
    )


def test_right_depths_are_not_warned_of(model, millimetres):
    assert not said(lambda: model.encode_depth(millimetres))[1]
    single = [said(lambda depth=depth: model.encode_depth([depth]))[1] for depth in millimetres]
    assert sum(map(bool, single)) <= 1  # one of these rooms is a view of a wall from a hand's breadth
    assert not said(lambda: model.encode_depth([depth / 1000 for depth in millimetres], unit_scale=1))[1]


def test_one_map_in_metres_is_warned_of(model, scene):
    assert len(said(lambda: model.encode_depth([scene]))[1]) == 1


@pytest.mark.parametrize("end", [0.001, 900.0])
def test_a_model_of_unknown_training_maps_knows_the_ends_of_its_range(scene, end):
    processor = DepthImageProcessor(normalization="range", value_range=[0, 10])
    assert not said(lambda: processor([scene, scene]))[1]
    _, warned = said(lambda: processor([scene * end, scene * end]))
    assert len(warned) == 1 and "one end of the range [0, 10] m" in warned[0]


def test_heights_may_be_negative(scene):
    heights = scene - 3
    processor = DepthImageProcessor(
        normalization="range", value_range=[-10, 10], invalid_values=[], value_percentiles=[-2.5, 0, 3]
    )
    assert not said(lambda: processor([heights]))[1]
    assert said(lambda: processor([heights * 100]))[1] and said(lambda: processor([heights + 30]))[1]


def test_maps_that_are_stretched_have_no_unit(scene):
    assert not said(lambda: DepthImageProcessor()([scene / 1000, scene * 1000]))[1]


@pytest.mark.parametrize("marker", [65535, -9999])
def test_markers_of_no_measurement_are_warned_of_unless_they_are_listed(scene, marker):
    raw = np.round(scene * 1000)
    raw[:2] = marker
    for processor in (DepthImageProcessor(), DepthImageProcessor(normalization="range", value_range=[0, 6e4])):
        _, warned = said(lambda processor=processor: processor([raw, raw]))
        assert sum(f"pixels of {marker}" in one for one in warned) == 1
        assert not said(lambda processor=processor: processor([raw], invalid_values=[0, marker]))[1]


def test_a_map_of_which_nothing_was_measured_is_refused(model):
    for nothing in (np.zeros((8, 8), np.uint16), np.full((8, 8), np.nan), np.full((8, 8), np.inf, np.float32)):
        with pytest.raises(DepthMapError, match="no valid pixel"):
            model.encode_depth([nothing])


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_a_last_dimension_of_one_is_one_map(model, scene, kind):
    raw = np.round(scene * 1000).astype(np.int32)
    expected = model.encode_depth([raw])
    for maps in (kind(raw[..., None]), [kind(raw[..., None])], kind(raw[None, ..., None]), kind(raw[None])):
        found = model.encode_depth(maps)
        assert found.shape == expected.shape and torch.equal(found, expected)
    assert model.encode_depth(kind(np.stack([raw, raw])[..., None])).shape[0] == 2


def test_colours_are_no_maps(model):
    for colours in (np.ones((40, 30, 3)), torch.ones(40, 30, 4)):
        with pytest.raises(DepthMapError, match="looks like colours"):
            model.encode_depth(colours)
    assert model.encode_depth(list(np.random.default_rng(0).integers(1, 5000, (6, 30, 3)))).shape[0] == 6


def test_percentiles_are_of_valid_pixels_in_metres(scene):
    processor = DepthImageProcessor(unit_scale=0.001, normalization="range", value_range=[0, 8])
    found = processor.measured_percentiles([np.round(scene * 1000), "missing.png"])
    np.testing.assert_allclose(found, np.percentile(scene[scene > 0], [1, 50, 99]), rtol=0.02)
    assert np.isnan(processor.measured_percentiles(["missing.png"])).all()
    with pytest.raises(ValueError, match="value_percentiles is"):
        DepthImageProcessor(value_percentiles=[3, 2, 1])


def test_a_check_goes_to_other_processes():
    assert not pickle.loads(pickle.dumps(RangeCheck()))._samples
    assert not copy.deepcopy(RangeCheck())._samples


def test_percentiles_are_of_bits_where_they_belong(scene):
    millimetres = np.round(scene * 1000).astype(np.uint16)
    rotated = (millimetres << 3) | (millimetres >> 13)
    plain, sun = (DepthImageProcessor.from_preset(name) for name in ("nyu-png", "sunrgbd"))
    expected = plain.measured_percentiles([millimetres])
    assert sun.measured_percentiles([rotated]) == pytest.approx(expected, rel=1e-6)
