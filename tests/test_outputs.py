"""Outputs appear whole or not at all, and never at the cost of something else."""

import errno
import os
import platform
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from hf_encoders.outputs import new_file, new_files, new_folder, remove_stale


def write_folder(output, overwrite=False, text="new"):
    with new_folder(output, overwrite) as folder:
        assert folder.parent == output.parent and folder.name.startswith(".")  # a rename stays on one disk
        (folder / "config.json").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def hidden(name, process, host=None, kind="partial"):
    """What a process leaves that writes an output of that name."""
    return f".{name}.{kind}-{host or platform.node()}-{process}-abc"


@pytest.fixture
def dead():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def umask():
    """Another umask than the usual one, put back afterwards."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_a_folder_appears_at_the_end(tmp_path):
    with new_folder(tmp_path / "a" / "out") as folder:  # the parent is made
        (folder / "config.json").write_text("{}")
        assert not (tmp_path / "a" / "out").exists()
    assert names(tmp_path / "a") == ["out"] and names(tmp_path / "a" / "out") == ["config.json"]


def test_a_file_appears_at_the_end(tmp_path):
    with new_file(tmp_path / "out.pth") as path:
        path.write_text("all of it")
        assert not (tmp_path / "out.pth").exists()
    assert names(tmp_path) == ["out.pth"] and (tmp_path / "out.pth").read_text() == "all of it"


def test_the_mode_of_a_file_follows_the_umask(tmp_path, umask):
    with new_file(tmp_path / "out") as path:
        path.touch(mode=0o600)  # as the safetensors writer makes it
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_an_empty_folder_takes_the_output_and_keeps_its_mode(tmp_path):
    (tmp_path / "out").mkdir(mode=0o700)
    write_folder(tmp_path / "out")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["config.json"]
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_a_link_to_an_empty_folder_is_not_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    with pytest.raises(FileExistsError, match="exists already"):
        write_folder(tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and not names(tmp_path / "elsewhere")


def test_the_modes_follow_the_umask(tmp_path, umask):
    with new_folder(tmp_path / "out") as folder:
        (folder / "private").touch(mode=0o600)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "out" / "private").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError("no errno"), RuntimeError("other")])
@pytest.mark.parametrize("make", [new_folder, new_file])
def test_an_error_leaves_nothing_and_passes(make, error, tmp_path):
    with pytest.raises(type(error)) as caught, make(tmp_path / "out"):
        raise error
    assert caught.value is error and names(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/x/.out.partial-1"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0"),
    ],
)
def test_a_full_disk_is_named_after_the_output(error, tmp_path):
    with pytest.raises(OSError, match="cannot be written") as caught, new_folder(tmp_path / "out"):
        raise error
    assert caught.value.filename == str(tmp_path / "out") and "partial" not in str(caught.value)
    assert names(tmp_path) == []


def test_an_existing_output_is_replaced_on_request_only(tmp_path):
    output = tmp_path / "out"
    write_folder(output, text="old")
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_folder(output)
    assert (output / "config.json").read_text() == "old"
    write_folder(output, overwrite=True)
    assert (output / "config.json").read_text() == "new" and names(tmp_path) == ["out"]


def test_the_old_output_survives_an_error(tmp_path):
    write_folder(tmp_path / "out", text="old")
    with pytest.raises(ValueError), new_folder(tmp_path / "out", overwrite=True):
        raise ValueError("too late")
    assert (tmp_path / "out" / "config.json").read_text() == "old" and names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "make", ["folder of photographs", "file", "link to nothing", "link to a folder of photographs"]
)
def test_overwrite_deletes_models_only(make, tmp_path):
    photographs, output = tmp_path / "photographs", tmp_path / "out"
    photographs.mkdir()
    (photographs / "child.jpg").touch()
    if make == "folder of photographs":
        output = photographs
    elif make == "file":
        output.write_text("mine")
    else:
        output.symlink_to(photographs if "photographs" in make else tmp_path / "none")
    before = names(tmp_path)
    with pytest.raises(FileExistsError, match="not a folder with a model"):
        write_folder(output, overwrite=True)
    assert names(tmp_path) == before and names(photographs) == ["child.jpg"]


def test_what_a_killed_process_left_is_removed_and_a_running_one_kept(tmp_path, dead):
    (tmp_path / hidden("out", dead)).mkdir()
    (tmp_path / hidden("out", dead) / "config.json").touch()
    kept = [hidden("other", dead), hidden("out", os.getppid())]
    for name in kept:
        (tmp_path / name).mkdir()
    write_folder(tmp_path / "out")
    assert names(tmp_path) == sorted([*kept, "out"])


def test_what_another_machine_writes_is_kept_whatever_runs_here(tmp_path, dead):
    theirs = hidden("out", dead, host="another-machine")
    (tmp_path / theirs).mkdir()
    write_folder(tmp_path / "out")
    assert names(tmp_path) == [theirs, "out"]


def test_files_move_in_together_and_the_manifest_last(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("old")
    (tmp_path / "logs").mkdir()
    order, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, target: (order.append(path.name), replace(path, target)))
    with new_files(tmp_path) as partial:
        (partial / "config.json").write_text("new")
        (partial / "weights").touch()
        assert (tmp_path / "config.json").read_text() == "old"
    assert order == ["weights", "config.json"] and (tmp_path / "config.json").read_text() == "new"
    assert names(tmp_path) == ["config.json", "logs", "weights"]


def test_an_error_keeps_the_old_files(tmp_path):
    (tmp_path / "config.json").write_text("old")
    with pytest.raises(ValueError), new_files(tmp_path) as partial:
        (partial / "config.json").write_text("new")
        raise ValueError
    assert names(tmp_path) == ["config.json"] and (tmp_path / "config.json").read_text() == "old"


def test_an_output_that_came_meanwhile_is_kept(tmp_path):
    with pytest.raises(FileExistsError), new_folder(tmp_path / "out"):
        write_folder(tmp_path / "out", text="theirs")
    assert (tmp_path / "out" / "config.json").read_text() == "theirs"


def test_a_file_that_came_meanwhile_is_kept(tmp_path):
    with pytest.raises(FileExistsError), new_file(tmp_path / "out.pth") as path:
        path.write_text("ours")
        (tmp_path / "out.pth").write_text("theirs")
    assert (tmp_path / "out.pth").read_text() == "theirs" and names(tmp_path) == ["out.pth"]


def test_a_link_to_a_model_is_replaced_and_the_model_kept(tmp_path):
    write_folder(tmp_path / "model", text="old")
    (tmp_path / "out").symlink_to("model")
    write_folder(tmp_path / "out", overwrite=True)
    assert names(tmp_path) == ["model", "out"] and not (tmp_path / "out").is_symlink()
    assert [(tmp_path / name / "config.json").read_text() for name in ("model", "out")] == ["old", "new"]


def test_names_are_no_patterns(tmp_path, dead):
    (tmp_path / hidden("[a]*", dead)).mkdir()
    (tmp_path / hidden("ab", dead)).mkdir()
    write_folder(tmp_path / "[a]*")
    write_folder(tmp_path / "*")
    assert names(tmp_path) == ["*", hidden("ab", dead), "[a]*"]


def test_the_old_output_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    write_folder(tmp_path / "out", text="old")
    rename = Path.rename

    def fail_for_the_new_one(source, target):
        if ".partial-" in source.name:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="cannot be written"):
        write_folder(tmp_path / "out", overwrite=True)
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / "config.json").read_text() == "old"


def test_an_old_output_that_a_killed_process_had_set_aside_gets_its_name_back(tmp_path, dead):
    set_aside = tmp_path / hidden("out", dead, kind="replaced")
    write_folder(set_aside)
    with pytest.raises(FileExistsError, match="exists already"):
        write_folder(tmp_path / "out")
    assert names(tmp_path) == ["out"] and (tmp_path / "out" / "config.json").is_file()


def test_an_old_output_that_a_killed_process_had_replaced_is_removed(tmp_path, dead):
    write_folder(tmp_path / "out")
    (tmp_path / hidden("out", dead, kind="replaced")).mkdir()
    remove_stale(tmp_path, "out")
    assert names(tmp_path) == ["out"]


def test_what_another_process_sets_aside_now_stays(tmp_path):
    set_aside = hidden("out", os.getppid(), kind="replaced")
    (tmp_path / set_aside).mkdir()
    write_folder(tmp_path / "out")
    assert names(tmp_path) == [set_aside, "out"]
