"""Data that grow: sixteen scenes, of whose files two are kept aside for later."""

import pytest

from tests.helpers.embedding_files import write_folder
from tests.helpers.multimodal_models import tiny_model

ROWS = 16


@pytest.fixture(scope="session")
def repo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed") / "model"
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def scenes(objects_test):
    """With names that are unique, as those of a data set are."""
    rows = objects_test.select(range(ROWS))
    return rows.add_column("scene", [f"scene {number}" for number in range(ROWS)])


@pytest.fixture
def maps(scenes, tmp_path):
    """Fourteen files of sixteen: 005.png and 015.png are kept aside."""
    folder = write_folder(scenes, tmp_path / "maps")
    for name in ("005.png", "015.png"):
        (folder / "b/c" / name).rename(tmp_path / name)
    return folder
