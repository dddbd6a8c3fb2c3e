"""What a run goes on from is one checkpoint: the one that is loaded is the one that its options are compared with."""

import json
import multiprocessing
import platform

import pytest

from hf_encoders.training.checkpoints import FOLDER, find_kept


@pytest.fixture
def ended():
    """The number of a process that is no more."""
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    return process.pid


def write(folder, step):
    folder.mkdir(parents=True)
    content = {"epoch": 0, "batches": step, "step": step, "processes": 1}
    (folder / "progress.json").write_text(json.dumps(content))


def test_a_checkpoint_that_was_set_aside_counts_as_in_place(tmp_path, ended):
    """A run was killed between the two renames that replace a checkpoint."""
    place = tmp_path / FOLDER
    write(place / "checkpoint-1", 1)
    write(place / f".checkpoint-2.replaced-{platform.node()}-{ended}-0a", 2)
    assert find_kept(tmp_path, "latest").progress.batches == 2
    assert find_kept(tmp_path, str(place / "checkpoint-2")).progress.batches == 2
    assert find_kept(tmp_path, str(place / "checkpoint-1")).progress.batches == 1
    write(place / "checkpoint-3", 3)
    assert find_kept(tmp_path, "latest").progress.batches == 3
    assert find_kept(tmp_path, str(place / "checkpoint-4")) is None


def test_what_a_living_process_set_aside_is_its_own(tmp_path):
    place = tmp_path / FOLDER
    write(place / "checkpoint-1", 1)
    write(place / f".checkpoint-2.replaced-{platform.node()}-{multiprocessing.current_process().pid}-0a", 2)
    assert find_kept(tmp_path, "latest").progress.batches == 1
