"""Names of data sets: what is there, what cannot be an id, and what is left to the Hub."""

import os

import pytest

from hf_encoders.data.location import locate
from hf_encoders.data.names import check_data_name
from hf_encoders.models.input_errors import InputError


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "one.npy").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["maps", "maps/one.npy", "maps/*.npy", "org/data", "data", "https://host/none.parquet"]
)
def test_what_may_be_there_is_taken(name):
    check_data_name(name)


@pytest.mark.parametrize("check", [check_data_name, locate])
@pytest.mark.parametrize(
    ("name", "noun"),
    [
        ("none.parquet", "file"),
        ("none.JPG", "file"),
        ("maps/*.tar", "file"),
        ("maps/none", "file or folder"),  # beside a folder that is there
        ("./none", "file or folder"),
        ("a/b/c", "file or folder"),
    ],
)
def test_what_is_not_there_is_refused_in_the_same_words(name, noun, check):
    with pytest.raises(InputError) as caught:
        check(name)
    assert str(caught.value) == f"{name}: no such {noun}"


def test_what_is_neither_a_file_nor_a_folder_is_no_data_set(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: neither a file nor a folder"):
        locate("pipe")
