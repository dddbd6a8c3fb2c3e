"""Names of data sets: what is there, what cannot be an id, and what is left to the Hub."""

import os

import PIL.Image
import pytest

from hf_encoders.data.depth_formats import READERS
from hf_encoders.data.location import left_out, list_files, locate
from hf_encoders.data.names import SUFFIXES, check_data_name
from hf_encoders.models.depth_map_files import is_depth_file
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
        ("maps/xyz", "file or folder"),  # beside a folder that is there
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


def test_the_list_of_suffixes_is_that_of_the_readers():
    PIL.Image.init()
    # pillow-heif registers what it reads with Pillow, from the first file on that any test reads by it.
    of_pillow = {suffix for suffix, kind in PIL.Image.EXTENSION.items() if kind in PIL.Image.OPEN and kind != "HEIF"}
    of_extras = {".heic", ".heif"} | ({".avif"} - of_pillow)
    assert set(SUFFIXES["image"]) - of_pillow == of_extras
    for suffix in SUFFIXES["depth"]:
        assert is_depth_file(f"map{suffix}") or suffix in SUFFIXES["image"]
    assert set(READERS) <= set(SUFFIXES["depth"])


def test_a_folder_of_depth_maps_has_them_in_any_picture_where_there_is_no_usual_kind(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "b.webp", "c.bmp", "notes.txt"):
        (folder / name).touch()
    assert list_files([folder], "depth") == [str(folder / name) for name in ("a.jpg", "b.webp", "c.bmp")]
    assert left_out(locate(str(folder)), "depth") == f"{folder}: left out: 1 .txt"
    (folder / "d.pfm").touch()  # then the others are photos of the same scenes
    assert list_files([folder], "depth") == [str(folder / "d.pfm")]
    assert left_out(locate(str(folder)), "depth") == f"{folder}: left out: 1 .bmp, 1 .jpg, 1 .txt, 1 .webp"


def test_what_a_folder_of_rows_leaves_out_is_counted_too(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    for name in ("a.parquet", "README.md", "LICENSE"):
        (folder / name).touch()
    assert left_out(locate(str(folder)), "image") == f"{folder}: left out: 1 .md, 1 without a suffix"
