"""Errors about inputs carry their parts, so that nobody reads a message to find one."""

import pickle

import numpy as np
import pytest

from hf_encoders import DepthImageProcessor, DepthMapError
from hf_encoders.models.input_errors import InputError, one_line

PICTURE = np.zeros((8, 8, 3), np.uint8)
MAP = np.ones((8, 8), np.float32)


def test_the_message_is_made_of_the_parts():
    error = InputError(path="a/b.png", reason="an empty file", hint="copy it again")
    assert str(error) == "a/b.png: an empty file; copy it again"
    assert (error.path, error.name, error.reason, error.hint) == (
        "a/b.png",
        "a/b.png",
        "an empty file",
        "copy it again",
    )
    assert str(InputError(index=3, reason="too large")) == "item 3: too large"
    assert str(InputError(index=3, name="map 3", reason="too large")) == "map 3: too large"


def test_a_message_is_enough():
    error = InputError("no such\nfile")
    assert str(error) == r"no such\nfile" and error.reason == "no such\nfile"
    assert (error.index, error.path, error.hint) == (None, None, "")


def test_the_parts_survive_a_pickle():
    error = pickle.loads(pickle.dumps(DepthMapError(index=2, path="a.png", reason="damaged", hint="copy it")))
    assert (str(error), error.index, error.path) == ("a.png: damaged; copy it", 2, "a.png")


def test_an_error_about_a_map_knows_its_position_and_reason(tmp_path):
    processor = DepthImageProcessor()
    with pytest.raises(DepthMapError) as caught:
        processor([[[1.0]], str(tmp_path / "none.png")][1:], first_index=7)
    assert (caught.value.index, caught.value.path) == (7, str(tmp_path / "none.png"))
    assert caught.value.reason == "no such file"


def test_errors_of_every_modality_know_their_position(tiny_multimodal):
    damaged = {"bytes": b"damaged", "path": None}
    inputs = {
        "image": ([PICTURE, damaged], "image 1"),
        "depth": ([MAP, MAP[0]], "map 1"),
        "text": (["a chair", "\ud800"], "text 1"),
    }
    for modality, (items, name) in inputs.items():
        with pytest.raises(InputError) as caught:
            tiny_multimodal.tower(modality).encode(items)
        assert (caught.value.index, caught.value.path) == (1, None)
        assert str(caught.value).startswith(f"{name}: ")
        assert name not in caught.value.without_position()


def test_a_wrong_type_is_an_error_of_both_kinds(tiny_multimodal):
    for modality in ("image", "text"):
        with pytest.raises(TypeError) as caught:
            tiny_multimodal.tower(modality).encode([7])
        assert isinstance(caught.value, ValueError) and caught.value.index == 0


def test_a_path_stays_in_a_message_without_the_position(tiny_multimodal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        tiny_multimodal.encode_image(["image 7"])  # a file's name, like a position
    assert (caught.value.index, caught.value.path) == (0, "image 7")
    assert caught.value.without_position() == "image 7: no such file"


def test_any_error_fits_on_one_line():
    assert one_line(ValueError("two\n  lines")) == "two lines" and one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
