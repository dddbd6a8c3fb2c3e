"""A thumbnail shows a picture whole."""

import numpy as np
import PIL.Image
import pytest

from hf_encoders.models.input_errors import InputError
from hf_encoders.thumbnails import thumbnail


@pytest.mark.parametrize(("size", "expected"), [((40, 30), (80, 60)), ((300, 900), (27, 80)), ((1, 999), (1, 80))])
def test_the_longer_side_is_as_long_as_was_asked_for(size, expected):
    small, metres = thumbnail(PIL.Image.new("RGB", size, "lime"), "image", 80)
    assert metres == ""
    assert (small.mode, small.size) == ("RGB", expected)
    assert (np.asarray(small) == (0, 255, 0)).all()


@pytest.mark.parametrize("modality", ["image", "depth"])
def test_a_file_that_is_no_picture_is_named(modality, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(InputError, match="notes.png"):
        thumbnail(str(tmp_path / "notes.png"), modality, 80, "notes.png")
