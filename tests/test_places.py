"""A name is a path or an id on the Hub by its looks, and a path is looked for."""

import os

import pytest

from hf_encoders.models.input_errors import InputError
from hf_encoders.places import check_exists, check_path_or_id, exists, is_path

PATHS = [
    "./model",
    "../model",
    "/model",
    "~/model",
    "a/b/c",
    "model/",
    "model.pth",
    "org/model.safetensors",
    "V.PT",
    ".",
]
IDS = ["model", "org/model", "org/bge-small-en-v1.5", "org/model_v2.0", "bert-base-uncased"]


@pytest.mark.parametrize("name", PATHS)
def test_paths_look_like_paths(name):
    assert is_path(name)


@pytest.mark.parametrize("name", IDS)
def test_ids_do_not(name):
    assert not is_path(name)
    check_path_or_id(name)


@pytest.mark.parametrize("name", ["./model", "/none/model", "a/b/c", "model.pth"])
def test_a_path_where_nothing_is_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        check_path_or_id(name)
    assert caught.value.path == name
    assert str(caught.value) == f"{name}: no such file" + ("" if name.endswith(".pth") else " or folder")


def test_files_folders_and_pipes_are_there(tmp_path):
    (tmp_path / "file.pth").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "file.pth", "pipe"):
        check_exists(tmp_path / name)


def test_a_link_to_nothing_and_a_file_as_a_folder_are_not(tmp_path):
    (tmp_path / "link").symlink_to("none")
    (tmp_path / "file").touch()
    assert not exists(tmp_path / "link") and not exists(tmp_path / "file" / "model")


def test_what_may_not_be_looked_at_is_left_to_its_reader(monkeypatch):
    def refuses(name):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(os, "stat", refuses)
    assert exists("closed/model")
