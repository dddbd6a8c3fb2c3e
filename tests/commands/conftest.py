"""What `search` and `classify` are tried on: a small model, real pictures as files, and the same in a parquet file."""

import pytest

from tests.helpers.pictures import save_pictures

NAMES = ["0.jpg", "1.jpg", "2.jpg", "3.png", "deep/4.jpg", "deep/5.jpg"]


@pytest.fixture
def repo(tiny_multimodal, tmp_path):
    tiny_multimodal.save_pretrained(tmp_path / "repo")
    return str(tmp_path / "repo")


@pytest.fixture
def photos(objects_test, tmp_path):
    """Six real images at two levels."""
    return save_pictures(tmp_path / "photos", objects_test.select(range(len(NAMES)))["image"], NAMES)


@pytest.fixture
def parquet(objects_test, tmp_path):
    """The same and their depth maps and captions in one file, and ids in another order."""
    rows = objects_test.select(range(len(NAMES)))
    rows = rows.add_column("name", [f"n{len(rows) - 1 - number}" for number in range(len(rows))])
    rows.to_parquet(tmp_path / "objects.parquet")
    return str(tmp_path / "objects.parquet")
