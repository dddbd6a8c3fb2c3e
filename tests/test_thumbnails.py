"""A thumbnail shows a picture whole, and a depth map in grey."""

import numpy as np
import PIL.Image
import pytest

from hf_encoders.models.input_errors import InputError
from hf_encoders.thumbnails import depth_to_grey, thumbnail


@pytest.mark.parametrize(("size", "expected"), [((40, 30), (80, 60)), ((300, 900), (27, 80)), ((1, 999), (1, 80))])
def test_the_longer_side_is_as_long_as_was_asked_for(size, expected):
    small = thumbnail(PIL.Image.new("RGB", size, "lime"), "image", 80)
    assert (small.mode, small.size) == ("RGB", expected)
    assert (np.asarray(small) == (0, 255, 0)).all()


def test_depth_is_grey_from_the_lowest_valid_value_to_the_highest():
    depth = np.array([[0, 1000], [3000, 2000]], np.uint16)
    np.testing.assert_array_equal(depth_to_grey(PIL.Image.fromarray(depth)), [[0, 0], [255, 127]])
    np.testing.assert_array_equal(depth_to_grey(np.array([[np.nan, 5.0], [5.0, np.inf]])), np.zeros((2, 2)))


@pytest.mark.parametrize("modality", ["image", "depth"])
def test_a_file_that_is_no_picture_is_named(modality, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(InputError, match="notes.png"):
        thumbnail(str(tmp_path / "notes.png"), modality, 80, "notes.png")
