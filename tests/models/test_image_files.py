"""A picture of any kind arrives as the RGB image that Pillow and transformers see, or as an error with its name."""

import io
import logging
import os
import pickle
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, features
from transformers import ViTImageProcessor
from transformers.image_utils import load_image

from hf_encoders.models.depth_map_files import DepthMapError
from hf_encoders.models.image_files import ImageError, read_image, read_images
from hf_encoders.models.input_errors import CONTENT_HINT

SUFFIXES = [".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".ppm"]
WIDE = np.arange(0, 65536, 1093, dtype=np.uint16).reshape(5, 12)  # all of 16 bits, and more pixels wide than high


@pytest.fixture(autouse=True)
def _no_warnings_of_our_own():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=r"PIL\.")  # as by import, but before what is above
        yield


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return {"bytes": file.getvalue(), "path": None}


def on_white(rgba):
    """What a page shows of pixels [H, W, 4], within the rounding of 8 bits."""
    colours, alpha = np.asarray(rgba, float)[..., :3], np.asarray(rgba, float)[..., 3:] / 255
    return colours * alpha + 255 * (1 - alpha)


def assert_nearly(image, expected):
    assert type(image) is Image.Image and image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image), expected, atol=1)


def assert_pixels(image, expected):
    assert type(image) is Image.Image and image.mode == "RGB"
    expected = np.asarray(expected)
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=-1)
    np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_give_what_pillow_gives(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(noise(5, 7, 3)).save(path)
    with Image.open(path) as image:
        assert_pixels(read_image(path, str(path)), image.convert("RGB"))


def test_photographs_give_transformers_own_values(tmp_path, objects_test):
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    for index, row in enumerate(objects_test.select(range(4))):
        path = tmp_path / f"{index}.jpg"
        row["image"].save(path)
        with Image.open(path) as image:
            expected = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"]
        assert torch.equal(processor(read_image(path, "image"), return_tensors="pt")["pixel_values"], expected)


@pytest.mark.parametrize("kind", [str, Path, os.fsencode, lambda path: {"bytes": None, "path": str(path)}])
def test_kinds_of_paths(tmp_path, kind):
    path = tmp_path / "im\N{LATIN SMALL LETTER A WITH DIAERESIS}ge.png"
    Image.fromarray(noise(5, 7, 3)).save(path)
    assert_pixels(read_image(kind(path), "image"), noise(5, 7, 3))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("kind", [os.fsencode, os.fsdecode, lambda path: Path(os.fsdecode(path))])
def test_names_that_are_no_utf8(tmp_path, kind):
    path = os.fsencode(tmp_path) + b"/na\xffme\n.png"
    with open(path, "wb") as file:
        Image.fromarray(noise(5, 7, 3)).save(file, "PNG")
    assert_pixels(read_image(kind(path), "image"), noise(5, 7, 3))
    os.truncate(path, 40)
    with pytest.raises(ImageError) as error:
        read_image(kind(path), os.fsdecode(path))
    assert r"na\udcffme\n.png: not" in str(error.value)
    str(error.value).encode()


def test_errors_survive_being_sent_between_processes():
    for error in (ImageError("na\udcffme: no such file"), DepthMapError("na\udcffme: no such file")):
        sent = pickle.loads(pickle.dumps(error))
        assert type(sent) is type(error) and str(sent) == r"na\udcffme: no such file"


def filled(mode):
    """A picture of a mode, each band a number higher."""
    image = Image.new(mode, (7, 5))
    for position in np.ndindex(image.size):
        image.putpixel(position, tuple(range(10, 10 + len(image.getbands())))[: len(image.getbands())])
    return image


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_modes_of_8_bits_are_converted_as_pillow_does(mode):
    image = filled(mode)
    before = image.tobytes()
    assert_pixels(read_image(image, "image"), image.convert("RGB"))
    assert image.tobytes() == before and read_image(image, "image") is not image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_alpha_is_laid_on_white(mode):
    image = filled("RGBA").convert(mode) if mode == "RGBa" else filled(mode)
    before = image.tobytes()
    assert_nearly(read_image(image, "image"), on_white(image.convert("RGBA")))
    assert image.tobytes() == before


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_opaque_pictures_are_those_of_pillow(mode):
    image = Image.fromarray(noise(5, 7, 3)).convert(mode[:-1]).convert(mode)
    assert_pixels(read_image(image, "image"), image.convert("RGB"))


def test_the_hidden_colour_of_clear_pixels_does_not_count():
    colours = [Image.new("RGBA", (7, 5), (*colour, 0)) for colour in ((0, 0, 0), (255, 0, 7))]
    for image in colours:
        assert_pixels(read_image(encoded(image), "image"), np.full((5, 7, 3), 255))


def test_white_is_said_once(caplog):
    logging.Logger.warning_once.cache_clear()
    for _ in range(3):
        read_image(filled("LA"), "image")
    assert [record.getMessage() for record in caplog.records] == [
        "pictures are transparent in places: they are laid on white, as a viewer shows them"
    ]


@pytest.mark.parametrize(("transparency", "alpha"), [(1, [255, 0]), (b"\x00\x80", [0, 128])])
def test_palettes_with_transparency(transparency, alpha):
    image = Image.fromarray(noise(5, 7) % 2, "L").convert("P")
    image.putpalette([10, 20, 30, 200, 100, 0])
    colours = np.array([[10, 20, 30, alpha[0]], [200, 100, 0, alpha[1]]], np.uint8)
    item = encoded(image, transparency=transparency)
    assert_nearly(read_image(item, "image"), on_white(colours[noise(5, 7) % 2]))


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7)), ("1", 0), ("I;16", 7 << 8)])
def test_a_colour_that_stands_for_nothing(mode, key):
    values = np.where(noise(5, 7) < 128, 7 if mode != "1" else 0, 255).astype(np.uint8)
    image = Image.fromarray(values.astype(np.uint16) << 8) if mode == "I;16" else Image.fromarray(values).convert(mode)
    item = encoded(image, transparency=key)
    assert "transparency" in Image.open(io.BytesIO(item["bytes"])).info
    assert_pixels(read_image(item, "image"), np.full((5, 7, 3), 255))


@pytest.mark.parametrize(
    "item",
    [
        Image.fromarray(WIDE),
        Image.fromarray(WIDE.astype(">u2")),
        Image.fromarray(WIDE.astype(np.int32)),
        encoded(Image.fromarray(WIDE)),
        encoded(Image.fromarray(WIDE.astype(">u2")), "TIFF"),
        WIDE,
        WIDE.astype(">u2"),
        torch.from_numpy(WIDE),
    ],
    ids="I;16 I;16B I png tiff array big-endian tensor".split(),
)
def test_16_bits_are_scaled_to_8(item):
    assert_pixels(read_image(item, "image"), WIDE >> 8)


@pytest.mark.parametrize("scale", [255, 1])
def test_float_images_hold_0_to_1_or_0_to_255(scale):
    image = Image.fromarray(noise(5, 7).astype(np.float32) / scale)
    assert image.mode == "F"
    assert_pixels(read_image(image, "image"), noise(5, 7))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_several(kind):
    frames = [Image.new("RGB", (7, 5), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    item = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(item["bytes"])).n_frames == 2
    assert_pixels(read_image(item, "image"), frames[0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_pictures_stand_upright_as_transformers_puts_them(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    item = encoded(Image.fromarray(noise(5, 7, 3)), kind, exif=exif)
    (tmp_path / "image").write_bytes(item["bytes"])
    image = read_image(item, "image")
    assert_pixels(image, load_image(str(tmp_path / "image")))
    assert image.size == ((5, 7) if orientation > 4 else (7, 5))


def test_16_bit_pictures_stand_upright_too():
    exif = Image.Exif()
    exif[0x0112] = 3
    assert_pixels(read_image(encoded(Image.fromarray(WIDE), exif=exif), "image"), WIDE[::-1, ::-1] >> 8)


@pytest.mark.parametrize("exif", [b"Exif\0\0no metadata", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"])
def test_damaged_metadata_costs_no_picture(exif):
    source = Image.fromarray(noise(5, 7, 3))
    plain = Image.open(io.BytesIO(encoded(source, "JPEG")["bytes"]))
    assert_pixels(read_image(encoded(source, "JPEG", exif=exif), "image"), plain)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (20_000, 2_000)], ids=str)
def test_small_and_large_pictures(size):
    assert read_image(encoded(Image.new("1", size)), "image").size == size


def test_pictures_of_which_pillow_warns(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(encoded(Image.new("1", (5, 7)))["bytes"]))
    assert read_image(encoded(Image.new("1", (5, 7))), "image").size == (5, 7)


ARRAYS = {
    "hw": noise(5, 7),
    "hw1": noise(5, 7, 1),
    "hw3": noise(5, 7, 3),
    "hw4": noise(5, 7, 4),
    "1hw": noise(1, 5, 7),
    "3hw": noise(3, 5, 7),
    "4hw": noise(4, 5, 7),
    "one pixel": noise(1, 1, 3),
    "last wins": noise(3, 5, 3),
    "first": noise(3, 5, 1),
}


@pytest.mark.parametrize("case", ARRAYS)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", "float32", "float64"])
def test_arrays(case, kind, dtype):
    array = ARRAYS[case]
    expected = array.transpose(1, 2, 0) if case in ("1hw", "3hw", "4hw", "first") else np.atleast_3d(array)
    item = array
    if dtype == "bool":
        item, expected = array > 127, (expected > 127) * np.uint8(255)
    elif dtype != "uint8":
        item = (array / 255).astype(dtype)
    if expected.shape[-1] == 4:
        assert_nearly(read_image(kind(item), "image"), on_white(expected))
    else:
        assert_pixels(read_image(kind(item), "image"), np.broadcast_to(expected, (*expected.shape[:2], 3)))


def test_tensors_of_other_kinds():
    values = torch.from_numpy(noise(3, 5, 7) / np.float32(255))
    expected = noise(3, 5, 7).transpose(1, 2, 0)
    assert_pixels(read_image(values.clone().requires_grad_(), "image"), expected)
    assert_pixels(read_image(values.permute(1, 2, 0), "image"), expected)
    assert_pixels(read_image(torch.ones(2, 2, dtype=torch.bfloat16) * 1.0001, "image"), np.full((2, 2), 255))


def cut(kind):
    return encoded(Image.fromarray(noise(64, 64, 3)), kind)["bytes"][:2000]


UNREADABLE = {
    "text": (b"no picture", "not an image of a kind that Pillow reads"),
    "empty": (b"", "an empty file"),
    "cut.jpg": (cut("JPEG"), "not a readable image (image file is truncated"),
    "cut.png": (cut("PNG"), "not a readable image (image file is truncated"),
    "cut.tif": (cut("TIFF"), "not a"),
    "map.tif": (encoded(Image.fromarray(np.full((2, 2), 300, np.float32)), "TIFF")["bytes"], "for encode_depth"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_that_cannot_be_read(tmp_path, name):
    content, message = UNREADABLE[name]
    path = tmp_path / name
    path.write_bytes(content)
    for item, called in ((path, str(path)), ({"bytes": content, "path": None}, "image 3")):
        with pytest.raises(ImageError, match=re.escape(f"{called}: {message}") if "map" not in name else message):
            read_image(item, called)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_content_of_a_file_is_read(kind):
    content = encoded(Image.fromarray(noise(8, 9, 3)), kind)
    expected = read_image(content, "image 3")
    assert read_image(content["bytes"], "image 3").tobytes() == expected.tobytes()
    assert [image.tobytes() for image in read_images([content["bytes"]])] == [expected.tobytes()]


def test_content_that_is_no_picture_is_named_by_its_place():
    with pytest.raises(ImageError, match="^image 1: not an image of a kind that Pillow reads$"):
        read_images([encoded(Image.new("RGB", (2, 2)))["bytes"], b"no\0picture"])


def test_paths_that_lead_nowhere(tmp_path):
    for item, message in {
        "": "an empty path, expected an image file",
        str(tmp_path / "missing.png"): "no such file",
        tmp_path: "a folder, expected an image file",
        "a red chair " * 500: "cannot be opened (File name too long)",
        "a\0b": "cannot be opened (embedded null byte)",
        b"P3 1 1": f"no such file; {CONTENT_HINT}",  # a path may be called so
    }.items():
        with pytest.raises(ImageError, match=f"^image 3: {re.escape(message)}$"):
            read_image(item, "image 3")


def test_a_picture_above_pillows_limit(tmp_path):
    Image.new("1", (20_000, 10_000)).save(tmp_path / "huge.png")
    with pytest.raises(
        ImageError, match="huge.png: 200 megapixels, more than the 179 .*; make it smaller, or raise PIL"
    ):
        read_image(tmp_path / "huge.png", "huge.png")


@pytest.mark.parametrize("item", [None, 3, 2.5, True, ["a.png"], object(), {}, {"bytes": None, "path": None}])
def test_other_types(item):
    with pytest.raises(
        TypeError, match=r"^image\\n3: a \w+.*, expected a path, the content of a file, a PIL image, an array"
    ):
        read_image(item, "image\n3")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.zeros((2, 3, 4, 5)), "shape [2, 3, 4, 5], expected [H, W], [H, W, 1|3|4] or [1|3|4, H, W]"),
        (np.zeros((5, 7, 2)), "shape [5, 7, 2], expected"),
        (np.zeros((0, 3)), "shape [0, 3], expected"),
        (np.zeros(()), "shape [], expected"),
        (np.full((2, 2), 255.0), "floats from 255 to 255, expected 0 to 1; or pass uint8"),
        (np.full((2, 2), -0.5), "floats from -0.5 to -0.5, expected 0 to 1"),
        (np.array([[0, np.nan]]), "floats from nan to nan, expected 0 to 1"),
        (np.zeros((2, 2), int), "an array of int64, expected uint8, uint16, bool or floats from 0 to 1"),
        (np.array([["a"]]), "an array of <U1, expected"),
        (torch.zeros(2, 2, device="meta"), "a tensor that is not a plain array"),
        (Image.new("F", (2, 2), float("inf")), "floats from inf to inf, expected 0 to 1 or 0 to 255; depth maps are"),
        (Image.new("I", (2, 2), 65536), "integers from 65536 to 65536, expected 16 bits (0 to 65535); depth maps are"),
        (Image.new("I", (2, 2), -1), "integers from -1 to -1"),
        (Image.new("RGB", (0, 2)), "an image of 0 x 2 pixels"),
        (Image.new("La", (2, 2)), "not a readable image (conversion from La"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_values_that_are_no_picture(item, message):
    with pytest.raises(ImageError, match=f"^image 3: .*{re.escape(message)}|^image 3: {re.escape(message)}"):
        read_image(item, "image 3")


def test_no_file_runs_code(tmp_path, monkeypatch):
    run = []
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *args, **kwargs: run.append(args) or Image.core.new("L", (9, 9))
    )
    path = tmp_path / "program.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="program.png: EPS is a program"):
        read_image(path, "program.png")
    assert not run
    with Image.open(path) as image:
        image.load()  # Pillow alone would run it
    assert run


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files as Linux shows them")
def test_files_are_closed(tmp_path):
    Image.fromarray(noise(5, 7, 3)).save(
        tmp_path / "image.gif", save_all=True, append_images=[Image.new("RGB", (7, 5))]
    )
    (tmp_path / "bad.png").write_bytes(cut("PNG"))
    before = len(os.listdir("/proc/self/fd"))
    images = [read_image(tmp_path / "image.gif", "image") for _ in range(3)]
    for _ in range(3):
        with pytest.raises(ImageError):
            read_image(tmp_path / "bad.png", "image")
    assert len(os.listdir("/proc/self/fd")) == before and len(images) == 3


NOISY = """
import sys, warnings
from hf_encoders.models.image_files import read_image
from PIL import Image
Image.MAX_IMAGE_PIXELS = 50
read_image(sys.argv[1], "large.png")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
try:
    read_image(sys.argv[1], "large.png")
except ValueError:
    print("an error, as the user said")
"""


def test_pillow_is_silent_unless_the_user_says_otherwise(tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (10, 9)).save(path)
    done = subprocess.run([sys.executable, "-c", NOISY, path], capture_output=True, text=True, check=True)
    assert done.stderr == "" and done.stdout == "an error, as the user said\n"


def test_threads_leave_the_filters_of_warnings_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    path = tmp_path / "large.png"
    Image.new("RGB", (10, 9)).save(path)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        reads = [threads.submit(read_image, path, "large.png") for _ in range(200)]
        warnings.filterwarnings("ignore", message="set meanwhile")
        assert all(read.result().size == (10, 9) for read in reads)
    assert warnings.filters[1:] == before and warnings.filters[0][1].pattern == "set meanwhile"


HEIC = b"\0\0\0\x18ftypheic" + bytes(64)


def test_heic_is_read_by_an_extra_that_is_imported_with_the_first_file(tmp_path, monkeypatch):
    (tmp_path / "photo.heic").write_bytes(HEIC)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    for item in (tmp_path / "photo.heic", {"bytes": HEIC, "path": None}):
        with pytest.raises(ImageError, match=r"^photo: HEIC needs pillow-heif; pip install 'hf-encoders\[heic\]'$"):
            read_image(item, "photo")

    def register():
        Image.register_open("FAKE", lambda *_: Image.new("RGB", (1, 1)), lambda head: head[4:12] == b"ftypheic")

    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    for item in (tmp_path / "photo.heic", {"bytes": HEIC, "path": None}):
        assert read_image(item, "photo").size == (1, 1)


def test_a_real_heic_file(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    try:
        Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "photo.heic", quality=100)
    except Exception:
        pytest.skip("this build of pillow-heif does not write")
    found = read_image(tmp_path / "photo.heic", "photo")
    assert found.size == (64, 48) and np.abs(np.asarray(found, int)[20, 20] - (200, 100, 50)).max() <= 3


def test_avif_is_read_by_a_pillow_that_can(tmp_path, monkeypatch):
    if features.check("avif"):
        Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "photo.avif", quality=100)
        found = read_image(tmp_path / "photo.avif", "photo")
        assert found.size == (64, 48) and np.abs(np.asarray(found, int)[20, 20] - (200, 100, 50)).max() <= 3
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "AVIF"])
    (tmp_path / "photo.avif").write_bytes(HEIC.replace(b"heic", b"avif"))
    with pytest.raises(ImageError, match="photo: not an image of a kind that Pillow reads; AVIF needs Pillow 11.3"):
        read_image(tmp_path / "photo.avif", "photo")
