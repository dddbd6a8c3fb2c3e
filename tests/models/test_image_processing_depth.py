"""The depth processor: exact values in, [-1, 1] out, with invalid pixels kept apart and each map by itself."""

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from hf_encoders import DepthImageProcessor, DepthMapError

pytestmark = pytest.mark.numeric

RAW = {"do_resize": False, "invalid_values": []}  # every pixel of the map as it is, normalised
METRES = {"do_normalize": False}  # resized, not normalised
INTEGERS = "uint8 int8 uint16 int16 uint32 int32 uint64 int64".split()
FLOATS = "float16 float32 float64".split()


def prepare(maps, **changes):
    return DepthImageProcessor(**changes)(maps)["pixel_values"]


def random_map(height=30, width=41, holes=0.3, seed=0):
    """Metres in [1, 9] with 0 where nothing was measured."""
    generator = np.random.default_rng(seed)
    depth = generator.uniform(1, 9, (height, width)).astype(np.float32)
    return np.where(generator.random((height, width)) < holes, np.float32(0), depth)


def triangle_weights(source, target):
    """[target, source] weights of a bilinear filter that widens when it shrinks a map."""
    scale = source / target
    centres = (np.arange(target)[:, None] + 0.5) * scale
    return np.maximum(0, 1 - np.abs(np.arange(source) + 0.5 - centres) / max(scale, 1))


def brute_force_resize(depth, height, width):
    """Each result pixel: the weighted mean of the valid pixels (not 0) under its kernel, NaN without any."""
    rows, columns = triangle_weights(depth.shape[0], height), triangle_weights(depth.shape[1], width)
    result = np.full((height, width), np.nan)
    for y, x in np.ndindex(height, width):
        kernel = np.outer(rows[y], columns[x]) * (depth != 0)
        if kernel.sum() > 0:
            result[y, x] = (kernel * depth.astype(np.float64)).sum() / kernel.sum()
    return result


# Kinds and types of maps


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, "bfloat16"])
def test_every_type_of_tensor(dtype):
    raw = torch.tensor([[0, 1, 2], [3, 5, 0]]).to(getattr(torch, dtype))
    assert prepare(raw, do_resize=False, invalid_fill=0.25).tolist() == [[[[0.25, -1, -0.5], [0, 1, 0.25]]]]


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, ">u2", ">i4", ">f4", ">f8"])
def test_every_type_of_array(dtype):
    raw = np.array([[0, 1, 2], [3, 5, 0]]).astype(dtype)
    assert prepare(raw, do_resize=False, invalid_fill=0.25).tolist() == [[[[0.25, -1, -0.5], [0, 1, 0.25]]]]


@pytest.mark.parametrize("kind", [np.array, torch.tensor, lambda rows: Image.fromarray(np.array(rows))])
def test_booleans_are_zero_and_one(kind):
    assert prepare(kind([[True, False]]), **RAW).tolist() == [[[[1, -1]]]]


@pytest.mark.parametrize(
    ("dtype", "first"),
    [("int32", -(2**31)), ("uint32", 2**32 - 3), ("int64", -(2**50)), ("uint64", 2**50), ("float64", 2**50)],
)
def test_wide_types_keep_neighbouring_values_apart(dtype, first):
    raw = torch.tensor([[first, first + 1, first + 2]]).to(getattr(torch, dtype))
    assert prepare(raw, **RAW).flatten().tolist() == [-1, 0, 1]


def as_file(save, name):
    return lambda raw, folder: save(folder / name, raw) or folder / name


KINDS = {
    "array [H, W]": lambda raw, folder: raw,
    "array [N, H, W]": lambda raw, folder: raw[None],
    "array [N, C, H, W]": lambda raw, folder: raw[None, None],
    "tensor": lambda raw, folder: torch.from_numpy(raw),
    "list": lambda raw, folder: [raw],
    "list of [C, H, W]": lambda raw, folder: (torch.from_numpy(raw)[None],),
    "generator": lambda raw, folder: (item for item in [raw]),
    "strided": lambda raw, folder: np.repeat(np.repeat(raw, 2, 0), 2, 1)[::-2, ::2][::-1],
    "transposed": lambda raw, folder: torch.from_numpy(raw.T.copy()).T,
    "PIL": lambda raw, folder: Image.fromarray(raw),
    "png": as_file(lambda path, raw: Image.fromarray(raw).save(path), "map.png"),
    "tif": as_file(lambda path, raw: Image.fromarray(raw.astype(np.float32)).save(path), "map.tif"),
    "npy": as_file(np.save, "map.npy"),
    "npz": as_file(np.savez, "map.npz"),
    "pt": as_file(lambda path, raw: torch.save(torch.from_numpy(raw)[None], path), "map.pt"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaled", [{}, {"unit_scale": 0.001, "normalization": "range", "value_range": [0, 65.535]}])
def test_all_65536_values_of_16_bits_stay_different(tmp_path, kind, scaled):
    """A detour over 8 bits would leave 256 of them."""
    raw = np.arange(65536, dtype=np.uint16).reshape(128, 512)
    result = prepare(KINDS[kind](raw, tmp_path), **RAW, **scaled)
    assert result.shape == (1, 1, 128, 512)
    # Four roundings; neighbours are 3e-5 apart.
    np.testing.assert_allclose(result.flatten(), np.linspace(-1, 1, 65536), rtol=0, atol=5e-7)
    assert (result.flatten().diff() > 0).all()


def test_the_input_stays_as_it_was():
    raw = random_map()
    before = raw.copy()
    prepare(raw, do_resize=False, do_rescale=False, do_normalize=False).add_(1)
    prepare(torch.from_numpy(raw), do_resize=False, do_rescale=False, do_normalize=False).add_(1)
    np.testing.assert_array_equal(raw, before)


def test_the_legacy_maps(objects_test, small_expected):
    expected = small_expected["pixel_values"]
    result = DepthImageProcessor()(objects_test["depth"][: len(expected)])["pixel_values"]
    assert result.dtype == torch.float32 and result.shape == (4, 1, 128, 128)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


# Invalid pixels


@pytest.mark.parametrize(("height", "width"), [(60, 58), (33, 90), (9, 8), (12, 64), (30, 20)])
@pytest.mark.parametrize("holes", [0, 0.3, 0.9])
def test_resizing_averages_valid_pixels_alone(height, width, holes):
    depth = random_map(holes=holes)
    size = {"height": height, "width": width}
    result = DepthImageProcessor(size=size, **METRES)(depth, return_mask=True)
    expected = brute_force_resize(depth, height, width)
    np.testing.assert_array_equal(result["pixel_mask"][0], np.isfinite(expected))
    mask = result["pixel_mask"][0].numpy()
    np.testing.assert_allclose(result["pixel_values"][0, 0].numpy()[mask], expected[mask], rtol=1e-4)


@pytest.mark.parametrize("size", [75, 13])
def test_nearest_picks_pixels(size):
    depth = random_map()
    result = DepthImageProcessor(size=size, resample=0, **METRES)(depth, return_mask=True)
    rows, columns = (np.int64((np.arange(size) + 0.5) * side / size) for side in depth.shape)
    expected, mask = depth[rows][:, columns], result["pixel_mask"][0].numpy()
    np.testing.assert_array_equal(mask, expected != 0)
    np.testing.assert_array_equal(result["pixel_values"][0, 0].numpy()[mask], expected[mask])


@pytest.mark.parametrize("resample", [0, 2])
@pytest.mark.parametrize("size", [11, 30, 70])
@pytest.mark.parametrize("fill", ["mean", "min", "max", 0.5])
@pytest.mark.parametrize("marker", [np.nan, np.inf, -np.inf, -9999, 65535])
def test_what_marks_an_invalid_pixel_does_not_matter(marker, fill, size, resample):
    depth = random_map()
    processor = DepthImageProcessor(
        size=size, resample=resample, invalid_fill=fill, invalid_values=[0, -9999, 65535], unit_scale=0.5
    )
    other = processor(np.where(depth == 0, np.float32(marker), depth), return_mask=True)
    for key, value in processor(depth, return_mask=True).items():
        assert torch.equal(other[key], value)


def test_zero_is_a_value_where_it_is_no_marker():
    result = DepthImageProcessor(**RAW, invalid_fill=0.5)(np.array([[0, np.nan, 1]]), return_mask=True)
    assert result["pixel_mask"].tolist() == [[[True, False, True]]]
    assert result["pixel_values"].tolist() == [[[[-1, 0.5, 1]]]]


@pytest.mark.parametrize(("fill", "expected"), [("mean", -0.125), ("min", -1), ("max", 0.75), (0.5, 0.5), (-1, -1)])
def test_invalid_fill_is_on_the_scale_of_the_result(fill, expected):
    raw = np.array([[-5, 0, 2], [5, np.nan, 7]])
    in_range = {"do_resize": False, "invalid_values": [-5], "normalization": "range", "value_range": [0, 8]}
    result = prepare(raw, invalid_fill=fill, **in_range)
    assert result[0, 0].tolist() == [[expected, -1, -0.5], [0.25, expected, 0.75]]


# Normalisation


@pytest.mark.parametrize("size", [20, 30, 50])
@pytest.mark.parametrize("holes", [0, 0.4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.1, -1234.567, 3e38, 1e-40])
def test_a_constant_map_gives_zeros(constant, dtype, holes, size):
    """Rounding in the resampling must not become the contrast of the result."""
    depth = np.where(random_map(30, 30, holes=holes) == 0, 0, constant).astype(dtype)
    assert (prepare(depth, size=size) == 0).all()
    assert set(prepare(depth, size=size, invalid_fill=-1).unique().tolist()) <= {0.0, -1.0}


def test_the_legacy_height_range_clips_at_ten():
    heights = np.array([[-np.float32(1e9), -10, -5], [0, 10, 30]])
    result = prepare(heights, normalization="range", value_range=[-10, 10], **RAW)
    assert result[0, 0].tolist() == [[-1, -1, -0.5], [0, 1, 1]]


def test_unit_scale_makes_metres():
    millimetres = np.round(random_map() * 1000).astype(np.uint16)
    metres = millimetres / 1000
    for changes in ({"normalization": "range", "value_range": [2, 8]}, {"normalization": "minmax"}, METRES):
        expected = prepare(metres, **changes)
        torch.testing.assert_close(prepare(millimetres, unit_scale=0.001, **changes), expected, rtol=0, atol=1e-5)
        assert torch.equal(prepare(metres, unit_scale=0.001, do_rescale=False, **changes), expected)


def test_a_scale_that_overflows_leaves_the_other_pixels():
    result = prepare(np.array([[3e38, 1, 2]], np.float32), unit_scale=1000.0, do_resize=False)
    assert result.flatten().tolist() == [0, -1, 1]


FLOAT_MAPS = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=2, max_dims=2, max_side=9))
)
F32, F64 = np.finfo(np.float32), np.finfo(np.float64)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(FLOAT_MAPS, st.sampled_from([[0], []]), st.sampled_from([None, [-10, 10]]), st.sampled_from([None, 5, 8]))
@example(np.array([[F32.max] * 3, [F32.min] * 3], np.float32), [], None, 8)
@example(np.array([[F64.max] * 3, [F64.min] * 3]), [], None, 8)
@example(np.array([[0, 1, 2]], np.float32) * F32.smallest_subnormal, [], None, None)
@example(np.array([[0, 1, 2]]) * F64.smallest_subnormal, [], None, None)
def test_any_floats_become_finite_values_between_minus_one_and_one(depth, markers, value_range, size):
    assume((np.isfinite(depth) & ~np.isin(depth, markers)).any())
    normalization = {"normalization": "range" if value_range else "minmax", "value_range": value_range}
    result = prepare(depth, invalid_values=markers, do_resize=size is not None, size=size or 1, **normalization)
    assert result.shape == ((1, 1, size, size) if size else (1, 1, *depth.shape))
    assert result.dtype == torch.float32 and result.isfinite().all() and result.abs().max() <= 1


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(
    depth=arrays(np.int64, (6, 7), elements=st.integers(0, 65535)),
    scale=st.floats(1e-3, 1e3),
    offset=st.floats(-1e4, 1e4),
    size=st.integers(3, 12),
)
def test_minmax_does_not_depend_on_unit_and_origin(depth, scale, offset, size):
    holes, depth = depth % 5 == 1, depth.astype(np.float64)
    assume(not holes.all())
    expected, result = (
        prepare(np.where(holes, np.nan, values), invalid_values=[], size=size)
        for values in (depth, depth * scale + offset)
    )
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


# Shapes of the result


def test_three_channels():
    depth = random_map()
    assert torch.equal(prepare(depth, num_channels=3), prepare(depth).expand(1, 3, -1, -1))
    raw = np.array([[[0, 1]], [[2, 3]], [[np.nan, 4]]])
    result = DepthImageProcessor(num_channels=3, invalid_fill=-1, **RAW)(raw[None], return_mask=True)
    assert result["pixel_values"].tolist() == [[[[-1, -0.5]], [[0, 0.5]], [[-1, 1]]]]  # one range for all channels
    assert result["pixel_mask"].tolist() == [[[False, True]]]


@pytest.mark.parametrize("size", [64, {"height": 20, "width": 50}, (20, 50)])
def test_size(size):
    expected = (64, 64) if size == 64 else (20, 50)
    result = DepthImageProcessor(size=size)([random_map(10, 70), random_map(70, 10)], return_mask=True)
    assert result["pixel_values"].shape == (2, 1, *expected) and result["pixel_mask"].shape == (2, *expected)


def test_without_resizing_maps_keep_their_size():
    assert prepare(random_map(7, 5), do_resize=False).shape == (1, 1, 7, 5)
    with pytest.raises(DepthMapError, match="differ in size and do_resize is off"):
        prepare([random_map(7, 5), random_map(5, 7)], do_resize=False)


def test_numpy_results():
    result = DepthImageProcessor()(random_map(), return_mask=True, return_tensors="np")
    assert isinstance(result["pixel_values"], np.ndarray) and result["pixel_values"].dtype == np.float32
    assert result["pixel_mask"].dtype == np.bool_ and set(result) == {"pixel_values", "pixel_mask"}
    assert set(DepthImageProcessor()(random_map())) == {"pixel_values"}


@pytest.mark.parametrize("nothing", [[], np.zeros((0, 9, 9)), torch.zeros(0, 1, 9, 9)], ids=["list", "array", "tensor"])
def test_no_maps_at_all(nothing):
    result = DepthImageProcessor(size=16, num_channels=3)(nothing, return_mask=True)
    assert result["pixel_values"].shape == (0, 3, 16, 16) and result["pixel_mask"].shape == (0, 16, 16)


@pytest.mark.parametrize("changes", [{}, {"normalization": "range", "value_range": [0, 5]}])
def test_a_result_does_not_depend_on_its_neighbours(changes):
    maps = [random_map(40 + seed, 50, seed=seed) * 10.0**seed for seed in range(5)] + [np.full((9, 9), 3.0)]
    processor = DepthImageProcessor(**changes)
    together = processor(maps)["pixel_values"]
    assert torch.equal(processor(maps[::-1])["pixel_values"].flip(0), together)
    for depth, expected in zip(maps, together, strict=True):
        assert torch.equal(processor(depth)["pixel_values"][0], expected)
    stack = np.stack([random_map(seed=seed) for seed in range(3)])
    assert torch.equal(processor(stack)["pixel_values"], processor(list(stack))["pixel_values"])
