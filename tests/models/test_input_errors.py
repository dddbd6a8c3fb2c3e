"""Errors about inputs carry their parts, so that nobody reads a message to find one."""

import pickle

import pytest

from hf_encoders import DepthImageProcessor, DepthMapError
from hf_encoders.models.input_errors import InputError, one_line


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


def test_any_error_fits_on_one_line():
    assert one_line(ValueError("two\n  lines")) == "two lines" and one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
