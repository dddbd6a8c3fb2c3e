"""Similarities of some rows: which are taken, what belongs together, and where another candidate is more similar."""

import numpy as np
import pytest
import torch

from hf_encoders.evaluation.embedded_columns import EmbeddedColumns
from hf_encoders.evaluation.similarities import similarities


@pytest.fixture
def split():
    """Row 3 was skipped, and row 4 has two captions; rows 2 and 4 share one."""
    texts = torch.tensor([[1.0, 0, 0], [2, 1, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0]])
    owners = {"text": np.array([0, 1, 2, 4, 4]), "image": np.array([0, 1, 2, 4]), "depth": np.array([0, 1, 2, 4])}
    pictures = torch.tensor([[3.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]])
    captions = ["a chair", "a stool", "a sofa", "a sofa", "two lamps"]
    embeds = {"text": texts, "image": pictures, "depth": -pictures}
    return EmbeddedColumns(embeds, owners, captions, np.array([True, True, True, False, True]))


def test_each_two_modalities_are_compared(split):
    maps = similarities(split, 32)
    assert [(one.query, one.found) for one in maps] == [("text", "image"), ("text", "depth"), ("image", "depth")]
    first, _, last = maps
    assert first.rows == last.rows == [0, 1, 2, 4]
    assert first.names == ["a chair", "a stool", "a sofa", "a sofa"] and last.names[3] == "row 4"
    np.testing.assert_allclose(first.cosines[1], [2 / 5**0.5, 1 / 5**0.5, 0, 1 / 10**0.5], atol=1e-6)
    np.testing.assert_allclose(np.diag(last.cosines), -1, atol=1e-6)


def test_rows_of_one_caption_belong_together(split):
    text_to_image, _, image_to_depth = similarities(split, 32)
    assert text_to_image.right.tolist() == [
        [True, False, False, False],
        [False, True, False, False],
        [False, False, True, True],
        [False, False, True, True],
    ]
    assert (image_to_depth.right == np.eye(4, dtype=bool)).all()
    assert text_to_image.wrong() == [(1, 0)]
    right, others = text_to_image.means()
    assert right > others


def test_few_rows_are_from_all_over_the_split(split):
    assert similarities(split, 2)[0].rows == [0, 4]
    right, others = similarities(split, 1)[0].means()
    assert right == 1 and np.isnan(others)
