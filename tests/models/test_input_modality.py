"""`encode` tells texts, images and depth maps apart, and asks where it cannot."""

import io
import re

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from hf_encoders.models.input_errors import InputError
from hf_encoders.models.input_modality import inputs_modality, pictures_modality
from hf_encoders.models.tower import MODALITIES
from tests.helpers.multimodal_models import tiny_model

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
DEPTHS = RNG.integers(500, 4000, (2, 40, 48)).astype(np.uint16)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two images, two depth maps, a picture of 8-bit grey."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(2):
        Image.fromarray(COLOURS[number]).save(folder / f"image{number}.png")
        Image.fromarray(DEPTHS[number]).save(folder / f"depth{number}.png")
        np.save(folder / f"depth{number}.npy", DEPTHS[number].astype(np.float32))
    Image.fromarray(COLOURS[0, :, :, 0]).save(folder / "grey.png")
    return folder


FORMS = {
    "a text": ("text", lambda files: "a red chair"),
    "texts": ("text", lambda files: ["a red chair", "a lamp."]),
    "texts of an iterator": ("text", lambda files: iter(["a red chair", "a lamp"])),
    "an array of texts": ("text", lambda files: np.array(["a red chair", "a lamp"])),
    "a column of texts": ("text", lambda files: Dataset.from_dict({"x": ["a red chair", "a lamp"]})["x"]),
    "a name without a suffix": ("text", lambda files: ["image0", "3.5 m"]),
    "a path": ("image", lambda files: str(files / "image0.png")),
    "paths": ("image", lambda files: [files / "image0.png", files / "image1.png"]),
    "a path in bytes": ("image", lambda files: bytes(files / "image0.png")),
    "PIL images": ("image", lambda files: [Image.fromarray(one) for one in COLOURS]),
    "8-bit grey": ("image", lambda files: [files / "grey.png", files / "image0.png"]),
    "colours": ("image", lambda files: COLOURS),
    "undecoded": ("image", lambda files: {"bytes": (files / "image0.png").read_bytes(), "path": None}),
    "the content of an image": ("image", lambda files: (files / "image0.png").read_bytes()),
    "the content of files": (
        "depth",
        lambda files: [(files / "depth0.npy").read_bytes(), (files / "depth1.png").read_bytes()],
    ),
    "a column of images": ("image", lambda files: Dataset.from_dict({"x": [Image.fromarray(COLOURS[0])]})["x"]),
    "depth maps of 16 bits": ("depth", lambda files: [str(files / "depth0.png"), str(files / "depth1.png")]),
    "depth maps of numbers": ("depth", lambda files: [files / "depth0.npy", files / "depth1.png"]),
    "PIL depth maps": ("depth", lambda files: (Image.fromarray(one) for one in DEPTHS)),
    "an array of maps": ("depth", lambda files: DEPTHS),
    "maps [N, 1, H, W]": ("depth", lambda files: DEPTHS[:, None].astype(np.float32)),
    "tensors [H, W]": ("depth", lambda files: [torch.from_numpy(one.astype(np.float32)) for one in DEPTHS]),
}


@pytest.mark.parametrize("form", FORMS)
def test_encode_gives_what_the_method_of_the_modality_gives(form, tiny_multimodal, files):
    modality, inputs = FORMS[form]
    encoded = tiny_multimodal.encode(inputs(files), convert_to="numpy")
    expected = getattr(tiny_multimodal, f"encode_{modality}")(inputs(files), convert_to="numpy")
    np.testing.assert_array_equal(encoded, expected)
    assert len(encoded)


def test_what_a_processor_gave(tiny_multimodal):
    processor = tiny_multimodal.processor
    tokens = processor(text=["a chair"], return_tensors="pt")
    assert torch.equal(tiny_multimodal.encode(tokens), tiny_multimodal.encode_text(tokens))
    maps = processor(depth=[DEPTHS[0]], return_tensors="pt")
    assert torch.equal(tiny_multimodal.encode(maps), tiny_multimodal.encode_depth(maps))
    pixels = processor(images=[COLOURS[0]], return_tensors="pt")
    with pytest.raises(ValueError, match="call encode_text, encode_image or encode_depth"):
        tiny_multimodal.encode(pixels)  # a DepthImageProcessor calls its maps so, too
    without_depth = tiny_model(depth=False)
    assert torch.equal(without_depth.encode(pixels), without_depth.encode_image(pixels))
    with pytest.raises(ValueError, match="a mapping with pixel_values, depth_values may be several things"):
        tiny_multimodal.encode({**pixels, **maps})


def test_options_and_units(tiny_multimodal):
    maps, kept = tiny_multimodal.encode(["none.npy/x", DEPTHS[0]][1:], on_error="skip", unit_scale=0.001)
    torch.testing.assert_close(maps, tiny_multimodal.encode_depth([DEPTHS[0]], unit_scale=0.001))
    assert kept.tolist() == [True] and tiny_multimodal.encode([]).shape == (0, 8)
    assert tiny_multimodal.encode(["a"], truncate_dim=3, normalize=False).shape == (1, 3)
    with pytest.raises(ValueError, match="preset, unit_scale: for depth maps alone, and the inputs are texts"):
        tiny_multimodal.encode(["a chair"], unit_scale=1, preset="tum")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (["a chair", COLOURS[0]], "'a chair' is a text, item 1 a picture: call encode_text, encode_image or "),
        ([Image.fromarray(DEPTHS[0]), Image.fromarray(COLOURS[0])], "item 0 is a depth map, item 1 is none: call"),
        (COLOURS[0, :, :, 0], "uint8 [40, 48] may be several things, or none that is embedded: call encode_text, "),
        (COLOURS[0].transpose(2, 0, 1), "uint8 [3, 40, 48] may be several things"),
        (np.zeros((3, 40, 48), np.float32), "float32 [3, 40, 48] may be several things"),
        (torch.zeros(2, 1, 40, 48), "float32 [2, 1, 40, 48] may be several things"),
        (np.zeros(8, np.float32), "float32 [8] may be several things"),
        ("no_such_chair.jpg", "no_such_chair.jpg: no such file; encode_text takes it for words"),
        (["a", "depth/none.npy"], "depth/none.npy: no such file; encode_text takes it for words"),
        (["a", 3], "item 1 is a int, which may be several things, or none that is embedded: call"),
        (3, "a int may be several things, or none that is embedded: call"),
        (None, "a NoneType may be several things"),
    ],
)  # fmt: skip
def test_what_may_be_several_things_is_asked_for(inputs, says, tiny_multimodal):
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        tiny_multimodal.encode(inputs)
    assert "\n" not in str(error.value) and " _" not in str(error.value)


def test_a_data_set_is_refused_where_it_is_read(tiny_multimodal):
    with pytest.raises(ValueError, match="a data set, expected one of its columns: x"):
        tiny_multimodal.encode(Dataset.from_dict({"x": ["a"]}))


def test_a_model_of_one_modality_is_not_asked():
    assert inputs_modality("chair.jpg", ("text",)) == ("text", "chair.jpg")
    assert inputs_modality(COLOURS[0, :, :, 0], ("text", "image"))[0] == "image"
    assert inputs_modality({"x", "y"}, MODALITIES)[0] == "text"
    with pytest.raises(ValueError, match="a is a depth map, b is none: say it"):
        pictures_modality([("a", "depth"), ("b", None)], "say it")


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(InputError, match="a folder, expected a text or a file; give its files"):
        inputs_modality(str(tmp_path), ("text", "image"))


@pytest.mark.parametrize("name", ["encode", "encode_image", "encode_depth"])
def test_open_files_are_refused_and_not_read_by_lines(name, tiny_multimodal, tmp_path):
    """A picture without a line break is one line."""
    Image.new("RGB", (40, 40)).save(tmp_path / "a.bmp")
    encode = getattr(tiny_multimodal, name)
    with open(tmp_path / "a.bmp", "rb") as file:
        for opened in (file, io.BytesIO(file.read())):
            with pytest.raises((ValueError, TypeError), match="pass the path of an open file, or the bytes that"):
                encode(opened)


def test_other_kinds_of_bytes_are_one_input(tiny_multimodal):
    for content in (bytearray(b"a\0b"), memoryview(b"a\0b")):
        with pytest.raises(TypeError, match=rf"image 0: a {type(content).__name__}, expected a path, the content of a"):
            tiny_multimodal.encode_image(content)
