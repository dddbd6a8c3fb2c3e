"""Files that people hold depth maps in: each gives the stored numbers, or an error that says what is missing."""

import pickle

import h5py
import numpy as np
import OpenEXR
import pytest
import scipy.io
import tifffile
import torch
from PIL import Image
from transformers import AutoModel

from hf_encoders import DepthMapError
from hf_encoders.data.depth_formats import READERS
from hf_encoders.data.names import SUFFIXES
from hf_encoders.models.depth_map_files import read_depth_map
from hf_encoders.registration import _DEPTH_FORMATS
from tests.conftest import SAMPLES

y, x = np.mgrid[:96, :128] / 100
METRES = (1.2 + 4 * x + np.sin(5 * y) ** 2).astype(np.float32)
MILLIMETRES = np.round(METRES * 1000).astype(np.uint16)


def write_pfm(path, metres, order="<"):
    scale = b"-1.0" if order == "<" else b"1.0"
    height, width = metres.shape
    path.write_bytes(b"Pf\n%d %d\n%s\n" % (width, height, scale) + metres[::-1].astype(f"{order}f4").tobytes())


def write_exr(path, channels):
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {name: OpenEXR.Channel(pixels) for name, pixels in channels.items()}) as file:
        file.write(str(path))


def write_h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip" if array.ndim > 1 else None)


# name → what writes the scene, and metres in one unit.
FILES = {
    "a.png": (lambda path: Image.fromarray(MILLIMETRES).save(path), 0.001),
    "a.npy": (lambda path: np.save(path, METRES), 1),
    "half.npy": (lambda path: np.save(path, METRES.astype(np.float16)), 1),
    "big.npy": (lambda path: np.save(path, METRES.astype(">f8")), 1),
    "a.npz": (lambda path: np.savez(path, depth=METRES, intrinsics=np.eye(3)), 1),
    "little.pfm": (lambda path: write_pfm(path, METRES), 1),
    "big.pfm": (lambda path: write_pfm(path, METRES, ">"), 1),
    "z.exr": (lambda path: write_exr(path, {"Z": METRES}), 1),
    "half.exr": (lambda path: write_exr(path, {"Y": METRES.astype(np.float16)}), 1),
    "grey.exr": (lambda path: write_exr(path, {name: METRES for name in "RGB"}), 1),
    "named.exr": (lambda path: write_exr(path, {"A": METRES * 0 + 1, "Z": METRES}), 1),
    "a.h5": (lambda path: write_h5(path, depth=MILLIMETRES, image=np.zeros((3, 4, 4), np.uint8)), 0.001),
    "only.hdf5": (lambda path: write_h5(path, anything=METRES, number=np.ones(())), 1),
    "a.mat": (lambda path: scipy.io.savemat(path, {"depth": METRES, "K": np.eye(3)}), 1),
    "only.mat": (lambda path: scipy.io.savemat(path, {"D": METRES, "scale": 1.0, "name": "x"}), 1),
    "float.tif": (lambda path: Image.fromarray(METRES).save(path), 1),
    **{
        f"{dtype}{index}.tif": (
            lambda path, dtype=dtype, options=options: tifffile.imwrite(
                path, (METRES if dtype[0] == "f" else MILLIMETRES).astype(dtype), **options
            ),
            1 if dtype[0] == "f" else 0.001,
        )
        for dtype in ("float16", "float32", "float64", "int16", "uint16", "uint32")
        for index, options in enumerate(
            ({}, {"tile": (32, 32)}, {"rowsperstrip": 7, "compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True})
        )
    },
}


@pytest.fixture(scope="module")
def model():
    return AutoModel.from_pretrained(SAMPLES / "multimodal-rooms")


@pytest.mark.parametrize("name", FILES)
def test_a_scene_has_one_embedding_in_every_format(model, tmp_path, name):
    write, unit = FILES[name]
    write(tmp_path / name)
    expected = model.encode_depth([METRES], unit_scale=1)
    found = model.encode_depth([str(tmp_path / name)], unit_scale=unit)
    assert torch.nn.functional.cosine_similarity(found, expected) > 0.999
    np.testing.assert_allclose(read_depth_map(tmp_path / name).double() * unit, METRES, rtol=2e-3)


def test_the_readers_are_those_that_are_registered():
    assert set(READERS) == set(_DEPTH_FORMATS) and set(READERS) <= set(SUFFIXES["depth"])


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("int16.tif", np.array([[-300, 5], [7, 32767]], np.int16)),
        ("int8.tif", np.array([[-30, 5], [7, 127]], np.int8)),
        ("uint32.tif", np.array([[3_000_000_000, 5], [7, 4_294_967_295]], np.uint32)),
        ("int32.tif", np.array([[-2_000_000_000, 5], [7, 9]], np.int32)),
        ("float64.tif", np.array([[1e200, 5], [-7, 1 / 3]])),
    ],
)
def test_values_of_every_type_are_those_that_were_stored(tmp_path, name, array):
    tifffile.imwrite(tmp_path / name, array)
    assert np.array_equal(read_depth_map(tmp_path / name).double().numpy(), array.astype(np.float64))


@pytest.mark.parametrize("largest", [100, 255, 4095, 65535])
@pytest.mark.parametrize("kind", ["P5", "P2"])
def test_values_of_a_pgm_file_are_those_that_were_stored(tmp_path, largest, kind):
    values = np.array([[0, 1, largest // 3, largest]], ">u2" if largest > 255 else np.uint8)
    pixels = values.tobytes() if kind == "P5" else " ".join(map(str, values[0])).encode()
    (tmp_path / "a.pgm").write_bytes(b"%s\n4 1\n%d\n" % (kind.encode(), largest) + pixels)
    assert np.array_equal(read_depth_map(tmp_path / "a.pgm").numpy(), values)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_zero_that_is_white_is_a_zero(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.arange(12).reshape(3, 4).astype(dtype), photometric="miniswhite")
    assert np.array_equal(read_depth_map(tmp_path / "a.tif").numpy(), np.arange(12).reshape(3, 4))


def test_a_predictor_changes_nothing(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", MILLIMETRES, compression="zlib", predictor=True)
    tifffile.imwrite(tmp_path / "wide.tif", MILLIMETRES.astype(np.uint32), compression="zlib", predictor=True)
    for name in ("a.tif", "wide.tif"):
        assert np.array_equal(read_depth_map(tmp_path / name).double().numpy(), MILLIMETRES)


@pytest.mark.parametrize(("dtype", "text"), [("float32", "-3.4028235e+38"), ("int16", "-32768"), ("float64", "-9999")])
def test_declared_no_data_is_invalid(tmp_path, dtype, text):
    array = np.arange(24).reshape(4, 6).astype(dtype)
    array[1, 2] = np.dtype(dtype).type(float(text))
    tifffile.imwrite(tmp_path / "a.tif", array, extratags=[(42113, "s", len(text) + 1, text, True)])
    found = read_depth_map(tmp_path / "a.tif").numpy()
    assert np.isnan(found[1, 2]) and np.isfinite(found).sum() == 23


def test_disparity_needs_its_calibration(tmp_path):
    baseline, focal, offset = 193.001, 3979.911, 124.343
    disparity = baseline * focal / (METRES * 1000) - offset
    disparity[0, 0] = np.inf  # not matched
    write_pfm(tmp_path / "disp0.pfm", disparity)
    with pytest.raises(DepthMapError, match="disp0.pfm: its name says disparity, .* calibration"):
        read_depth_map(tmp_path / "disp0.pfm")
    lines = [f"cam0=[{focal} 0 1244.772; 0 {focal} 1019.507; 0 0 1]", f"doffs={offset}", f"baseline={baseline}"]
    (tmp_path / "calib.txt").write_text("\n".join(lines))
    depth = read_depth_map(tmp_path / "disp0.pfm").numpy()
    assert np.isnan(depth[0, 0])
    np.testing.assert_allclose(depth[1:] / 1000, METRES[1:], rtol=1e-4)
    (tmp_path / "calib.txt").write_text("nothing")
    with pytest.raises(DepthMapError, match="expected cam0, baseline and doffs"):
        read_depth_map(tmp_path / "disp0.pfm")


class Trap:
    """What a pickle would run."""

    def __reduce__(self):
        return (pytest.fail, ("a file was executed",))


BAD = {
    "several.npz": (lambda path: np.savez(path, left=METRES, right=METRES), "holds left, right; .* read the file"),
    "several.h5": (lambda path: write_h5(path, left=METRES, right=METRES), "holds left, right"),
    "several.mat": (lambda path: scipy.io.savemat(path, {"left": METRES, "right": METRES}), "holds left, right"),
    "none.h5": (lambda path: write_h5(path, number=np.ones(())), "holds no array"),
    "channels.exr": (lambda path: write_exr(path, {"R": METRES, "G": METRES * 2}), "holds the channels"),
    "colours.pfm": (lambda path: path.write_bytes(b"PF\n2 1\n-1.0\n" + bytes(24)), "3 channels"),
    "short.pfm": (lambda path: path.write_bytes(b"Pf\n2 1\n-1.0\n" + bytes(4)), "cut short"),
    "huge.pfm": (lambda path: path.write_bytes(b"Pf\n99999999 99999999\n-1.0\n" + bytes(4)), "cut short"),
    "no.pfm": (lambda path: path.write_bytes(b"P5\n2 1\n255\n12"), "no portable float map"),
    "pages.tif": (lambda path: tifffile.imwrite(path, np.stack([METRES, METRES])), "2 frames"),
    "wide_pages.tif": (lambda path: tifffile.imwrite(path, np.ones((2, 8, 8))), "2 frames"),
    "wide_channels.tif": (lambda path: tifffile.imwrite(path, np.ones((8, 8, 3)), photometric="rgb"), "3 channels"),
    "turned.tif": (
        lambda path: tifffile.imwrite(path, np.ones((8, 9)), extratags=[(274, "H", 1, 3, True)]),
        "stored turned",
    ),
    "damaged.tif": (lambda path: path.write_bytes(b"II*\0" + bytes(40)), "not a readable depth map"),
    "damaged.h5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "not a readable depth map"),
    "damaged.exr": (lambda path: path.write_bytes(b"\x76\x2f\x31\x01"), "not a readable depth map"),
    "damaged.mat": (lambda path: path.write_bytes(b"MATLAB 5.0"), "not a readable depth map"),
    "objects.npy": (lambda path: np.save(path, np.array([Trap()], object), allow_pickle=True), "not a readable"),
    "pickle.npy": (lambda path: path.write_bytes(pickle.dumps(Trap())), "not a readable"),
    "objects.npz": (lambda path: np.savez(path, depth=np.array([Trap()], object)), "not a readable"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_would_have_to_be_guessed_is_refused(tmp_path, name):
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(DepthMapError, match=f"{name}: .*{message}"):
        read_depth_map(tmp_path / name)


@pytest.mark.parametrize("suffix", [*READERS, ".png", ".npy"])
def test_a_missing_file_is_missing(tmp_path, suffix):
    with pytest.raises(DepthMapError, match="no such file"):
        read_depth_map(tmp_path / f"missing{suffix}")


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    write = tmp_path / "a.h5"
    write.write_bytes(b"")
    with pytest.raises(DepthMapError, match=r"a.h5: needs h5py; pip install 'hf-encoders\[depth\]'"):
        read_depth_map(write)
