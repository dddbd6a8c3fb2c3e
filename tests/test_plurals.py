"""One thing is no plural."""

import pytest

from hf_encoders.plurals import counted


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [(1, "map", "1 map"), (0, "row", "0 rows"), (2, "batch", "2 batches"), (1_000, "image", "1,000 images")],
)
def test_counted(number, noun, said):
    assert counted(number, noun) == said
