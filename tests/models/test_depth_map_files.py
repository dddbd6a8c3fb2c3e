"""Every kind of file, PIL mode and array comes out with the values it went in with, or as an error with its name."""

import io
import pickle
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from hf_encoders.models.depth_map_files import (
    DepthMapError,
    array_to_tensor,
    image_to_tensor,
    read_depth,
    read_depth_map,
)

GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6  # PNG's colour types
DTYPES = "? u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8 >u2 >i4 >i8 >f2 >f4 >f8".split()
TORCH_DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64,
    torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
]  # fmt: skip


def some_map(dtype):
    """[5, 7] of a type, of random bits: all magnitudes and signs."""
    bits = np.random.default_rng(0).integers(0, 256, (5, 7, np.dtype(dtype).itemsize), np.uint8)
    return bits[..., 0] > 127 if dtype == "?" else bits.view(dtype)[..., 0]


def write_png(path, array, colour_type):
    """16-bit PNG of any colour type, which Pillow itself cannot write. Array: [H, W, channels]."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = array.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def write_array(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, anything=array)
    else:
        Image.fromarray(array).save(path)


def assert_same(tensor, array):
    assert tensor.shape == array.shape
    assert tensor.numpy().dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_numpy_files(tmp_path, suffix, dtype):
    path = tmp_path / f"map{suffix}"
    write_array(path, some_map(dtype))
    assert_same(read_depth_map(path), some_map(dtype))


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", "?"), (".png", "u1"), (".png", "u2"), (".tif", "?"), (".tif", "u1"), (".tiff", "u2"), (".tif", ">u2")]
    + [(".tif", "i4"), (".tiff", "f4"), (".jp2", "u2")],
)
def test_image_files(tmp_path, suffix, dtype):
    path = tmp_path / f"map{suffix}"
    write_array(path, some_map(dtype))
    assert_same(read_depth_map(path), some_map(dtype))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_all_16_bit_values_survive(tmp_path, suffix):
    array = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    write_array(tmp_path / f"map{suffix}", array)
    assert_same(read_depth_map(tmp_path / f"map{suffix}"), array)


def test_float_tiff_keeps_nan_and_inf(tmp_path):
    array = np.array([[np.nan, np.inf], [-np.inf, 1e-42]], np.float32)
    write_array(tmp_path / "map.tif", array)
    assert_same(read_depth_map(tmp_path / "map.tif"), array)


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_torch_files(tmp_path, suffix, dtype):
    tensor = torch.tensor([[0, 1, 2], [3, 4, 100]]).to(dtype).T
    torch.save(tensor, tmp_path / f"map{suffix}")
    read = read_depth_map(tmp_path / f"map{suffix}")
    assert read.dtype == dtype and torch.equal(read, tensor)


def test_torch_parameter_comes_without_its_graph(tmp_path):
    torch.save(torch.nn.Parameter(torch.ones(2, 2)), tmp_path / "map.pt")
    assert not read_depth_map(tmp_path / "map.pt").requires_grad


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_a_string_or_a_path_of_any_case(tmp_path, kind):
    np.save(tmp_path / "map.npy", some_map("f4"))
    path = (tmp_path / "map.npy").rename(tmp_path / "MAP.NPY")
    assert_same(read_depth_map(kind(path)), some_map("f4"))


def test_the_array_named_depth_is_the_map(tmp_path):
    np.savez(tmp_path / "map.npz", confidence=np.zeros((5, 7)), depth=some_map("u2"))
    torch.save({"confidence": torch.zeros(5, 7), "depth": torch.ones(5, 7)}, tmp_path / "map.pt")
    torch.save({"scale": 0.001, "z": torch.ones(5, 7)}, tmp_path / "one.pt")
    assert_same(read_depth_map(tmp_path / "map.npz"), some_map("u2"))
    assert read_depth_map(tmp_path / "map.pt").all() and read_depth_map(tmp_path / "one.pt").all()


PIL_MODES = {"1": "?", "L": "u1", "I;16": "u2", "I;16B": ">u2", "I": "i4", "F": "f4"}


@pytest.mark.parametrize(("mode", "dtype"), PIL_MODES.items())
def test_pil_modes(mode, dtype):
    image = Image.fromarray(some_map(dtype))
    assert image.mode == mode
    assert_same(image_to_tensor(image, "map 0"), some_map(dtype))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_equal_colours_are_one_map_whatever_their_alpha(mode):
    image = Image.fromarray(some_map("u1")).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(some_map("u1").T.copy().reshape(5, 7)))
    assert_same(image_to_tensor(image, "map 0"), some_map("u1"))


def test_unequal_colours_are_three_channels():
    array = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    assert_same(image_to_tensor(Image.fromarray(array), "map 0"), array.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "view",
    [lambda a: a.T, lambda a: a[::2, ::-1], np.asfortranarray, lambda a: np.frombuffer(a.tobytes()).reshape(a.shape)],
    ids=["transposed", "strided", "fortran", "read-only"],
)
def test_arrays_of_any_layout_without_warnings(view, request):
    request.addfinalizer(lambda: torch.set_warn_always(False))
    torch.set_warn_always(True)  # torch would mention a read-only array once in a process
    array = view(some_map("f8"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(array_to_tensor(array, "map 0"), array)


def test_long_doubles_become_doubles():
    assert_same(array_to_tensor(some_map("f8").astype(np.longdouble), "map 0"), some_map("f8"))


def truncated(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 65535, (64, 64), np.uint16)).save(path)
    path.write_bytes(path.read_bytes()[:3000])


def two_frames(path):
    frame = Image.fromarray(some_map("f4"))
    frame.save(path, save_all=True, append_images=[frame])


UNREADABLE = {
    "missing.png": (lambda path: None, "no such file"),
    "missing.npy": (lambda path: None, "no such file"),
    "missing.pt": (lambda path: None, "no such file"),
    "folder.png": (lambda path: path.mkdir(), "a folder, expected the file of a depth map"),
    "empty.png": (lambda path: path.touch(), "not a readable depth map"),
    "truncated.png": (truncated, "not a readable depth map"),
    "truncated.tif": (truncated, "not a readable depth map"),
    "text.png": (lambda path: path.write_text("depth"), "not a readable depth map"),
    "text.npy": (lambda path: path.write_text("depth"), "not a readable depth map"),
    "text.npz": (lambda path: path.write_text("depth"), "not a readable depth map"),
    "text.pt": (lambda path: path.write_text("depth"), "not a readable depth map"),
    "two.npz": (lambda path: np.savez(path, a=np.ones((2, 2)), b=np.ones((2, 2))), "holds a, b; expected one array"),
    "none.npz": (lambda path: np.savez(path), "holds no array; expected one array"),
    "none.pt": (lambda path: torch.save({}, path), "holds no array; expected one array"),
    "two.pt": (lambda path: torch.save({"a": torch.ones(2), "b": torch.ones(2)}, path), "holds a, b; expected one"),
    "list.pt": (lambda path: torch.save([1.0], path), "holds a list, expected one tensor"),
    "complex.npy": (lambda path: np.save(path, np.ones((2, 2), complex)), "complex128, expected real numbers"),
    "strings.npy": (lambda path: np.save(path, np.array([["1"]])), "<U1, expected real numbers"),
    "two.tif": (two_frames, "holds 2 frames, expected one map"),
    "palette.png": (lambda path: Image.fromarray(some_map("u1")).convert("P").save(path), "mode 'P', expected depth"),
    "cmyk.tif": (lambda path: Image.fromarray(some_map("u1")).convert("CMYK").save(path), "'CMYK', expected depth"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_errors_name_the_file_and_what_was_expected(tmp_path, name):
    write, message = UNREADABLE[name]
    write(tmp_path / name)
    with pytest.raises(DepthMapError) as error:
        read_depth_map(tmp_path / name)
    assert str(tmp_path / name) in str(error.value) and message in str(error.value)


def test_an_empty_path_is_not_the_current_folder():
    with pytest.raises(DepthMapError, match="an empty path"):
        read_depth_map("")


@pytest.mark.parametrize(("colour_type", "channels"), [(RGB, 3), (GREY_ALPHA, 2), (RGB_ALPHA, 4)])
def test_16_bit_colours_are_refused_rather_than_cut_to_8_bits(tmp_path, colour_type, channels):
    array = np.repeat(some_map("u2")[..., None], channels, axis=-1)
    write_png(tmp_path / "map.png", array, colour_type)
    with pytest.raises(DepthMapError, match="map.png: 16-bit colours"):
        read_depth_map(tmp_path / "map.png")
    write_png(tmp_path / "map.png", array[..., :1], GREY)  # the writer above is sound
    assert_same(read_depth_map(tmp_path / "map.png"), some_map("u2"))


def test_a_damaged_pil_image_is_named(tmp_path):
    truncated(tmp_path / "map.png")
    with pytest.raises(DepthMapError, match="map 3: not a readable"), Image.open(tmp_path / "map.png") as image:
        image_to_tensor(image, "map 3")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


TRAPS = {
    "object.npy": lambda path, trap: np.save(path, np.array([[trap]], dtype=object)),
    "pickle.npy": lambda path, trap: path.write_bytes(pickle.dumps(trap)),
    "object.npz": lambda path, trap: np.savez(path, np.array([[trap]], dtype=object)),
    "pickle.npz": lambda path, trap: path.write_bytes(pickle.dumps(trap)),
    "object.pt": lambda path, trap: torch.save({"depth": torch.ones(2, 2), "more": trap}, path),
    "pickle.pt": lambda path, trap: path.write_bytes(pickle.dumps(trap, protocol=2)),
}


@pytest.mark.parametrize("name", TRAPS)
def test_no_file_runs_code(tmp_path, name):
    TRAPS[name](tmp_path / name, Trap(tmp_path / "sprung"))
    with pytest.raises(DepthMapError, match=name):
        read_depth_map(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))  # the trap works
    assert (tmp_path / "sprung").exists()


def test_masked_pixels_of_an_array_are_invalid():
    raster = np.ma.masked_equal(np.array([[1, 2], [3, -32768]], dtype=np.int16), -32768)
    assert torch.equal(array_to_tensor(raster, "raster").isnan(), torch.tensor([[False, False], [False, True]]))


def content_of(write, *arguments):
    content = io.BytesIO()
    write(content, *arguments)
    return content.getvalue()


def test_the_content_of_a_file_is_read_as_the_file():
    depth = np.arange(1, 13, dtype=np.uint16).reshape(3, 4) * 5000
    contents = {
        "png": content_of(lambda file: Image.fromarray(depth).save(file, "PNG")),
        "tif": content_of(lambda file: Image.fromarray(depth.astype(np.float32)).save(file, "TIFF")),
        "wide.tif": content_of(lambda file: tifffile.imwrite(file, depth.astype(np.float64))),
        "unsigned.tif": content_of(lambda file: tifffile.imwrite(file, depth.astype(np.uint32))),
        "npy": content_of(np.save, depth),
        "npz": content_of(lambda file: np.savez(file, depth=depth)),
        "pfm": b"Pf\n4 3\n-1.0\n" + depth[::-1].astype("<f4").tobytes(),
    }
    for kind, content in contents.items():
        found = read_depth({"bytes": content, "path": None}, "row 3")
        np.testing.assert_array_equal(found.numpy(), depth, err_msg=kind)
        np.testing.assert_array_equal(read_depth(content, "row 3").numpy(), depth, err_msg=kind)
    # A .pt file is a zip archive, as an .npz file is: its name tells.
    content = content_of(lambda file: torch.save(torch.ones(2, 3), file))
    assert read_depth({"bytes": content, "path": "a/b.pt"}, "row 3").shape == (2, 3)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"bytes": b"", "path": None}, "row 3: no bytes, expected the content of a file"),
        (
            b"maps/0.png",
            "row 3: a bytes, expected a path, a PIL image, an array or a tensor; for the content of a file",
        ),
        ({"bytes": b"garbage", "path": "a.png"}, "row 3: not a depth map of a kind that is read"),
        ({"bytes": b"\x93NUMPY garbage", "path": None}, "row 3: not a readable depth map"),
        ({"bytes": None, "path": None}, "row 3: a dict without 'bytes' or 'path', expected a path"),
        ({"bytes": None, "path": "none.png"}, "none.png: no such file"),
        ([[1.0]], "row 3: a list, expected a path, a PIL image, an array or a tensor"),
    ],
)
def test_content_that_is_no_map_is_named(item, says):
    with pytest.raises(DepthMapError, match=f"^{re.escape(says)}"):
        read_depth(item, "row 3")
