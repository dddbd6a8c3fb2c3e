"""Folders as people have them."""

import os

import pytest

from hf_encoders.data.listing import list_folder

SUFFIXES = (".png", ".jpg")


def names(folder):
    return [file.removeprefix(f"{folder}/") for file in list_folder(folder).of_kinds(SUFFIXES)]


def fill(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def test_hidden_files_and_other_kinds_are_left_out_and_counted(tmp_path):
    fill(tmp_path, "b.PNG", "a/c.jpg", "._a.png", ".thumbs/b.png", "__MACOSX/b.png", "notes.txt", "x.heic", "y.heic")
    listing = list_folder(tmp_path)
    assert names(tmp_path) == ["a/c.jpg", "b.PNG"]
    assert listing.left_out == {"hidden": 3} and listing.suffixes()[".heic"] == 2
    assert listing.left_out_line("here", []) == "here: left out: 3 hidden"
    others = [file for file in listing.files if file not in listing.of_kinds(SUFFIXES)]
    assert listing.left_out_line("here", others) == "here: left out: 2 .heic, 1 .txt, 3 hidden"


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    fill(tmp_path, ".DS_Store", "a/.DS_Store", "LICENSE", "Makefile", "a.TXT", "b.txt", "c.txt", "d.png")
    listing = list_folder(tmp_path)
    others = [file for file in listing.files if not file.endswith(".png")]
    assert listing.left_out_line("x", others) == "x: left out: 3 .txt, 2 without a suffix, 2 .DS_Store"
    assert list_folder(tmp_path / "a").left_out_line("x", []) == "x: left out: 1 .DS_Store"
    fill(tmp_path, *(f"file.{letter}" for letter in "abcdefgh"))
    line = list_folder(tmp_path).left_out_line("x", list_folder(tmp_path).files)
    assert line.endswith("3 of other kinds, 2 .DS_Store") and "3 .txt, 2 without a suffix, 1 .a, 1 .b, " in line


def test_links_are_followed_once(tmp_path):
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    fill(photos, "a/1.png")
    fill(elsewhere, "2.png")
    links = {
        "loop": photos,
        "a/parent": photos / "a",
        "here": elsewhere,
        "there": elsewhere,
        "file.png": photos / "a/1.png",
    }
    for name, target in links.items():
        (photos / name).symlink_to(target)
    (photos / "gone.png").symlink_to(photos / "nothing.png")
    assert names(photos) == ["a/1.png", "file.png", "here/2.png"]
    expected = {"links to a folder that is read already": 3, "links to nothing": 1}
    assert list_folder(photos).left_out == expected
    (tmp_path / "way in").symlink_to(photos)
    assert names(tmp_path / "way in") == ["a/1.png", "file.png", "here/2.png"]


def test_a_folder_may_have_the_name_of_a_picture(tmp_path):
    fill(tmp_path, "trip.png/1.png")
    assert names(tmp_path) == ["trip.png/1.png"]


def test_what_goes_while_it_is_read_is_left_out(tmp_path, monkeypatch):
    fill(tmp_path, "a/1.png", "b/2.png")
    scandir = os.scandir

    def scan(path):
        if str(path).endswith("/b"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    listing = list_folder(tmp_path)
    assert listing.files == [str(tmp_path / "a" / "1.png")] and listing.left_out == {"gone": 1}


def test_pipes_are_left_out(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert list_folder(tmp_path).left_out == {"neither files nor folders": 1}


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match="none: cannot be read"):
        list_folder(tmp_path / "none")
