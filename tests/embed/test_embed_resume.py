"""Embedding that was interrupted goes on, on any number of processes, to the same bytes as without interruption."""

import multiprocessing
import shutil
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from accelerate import PartialState
from datasets import Dataset

from hf_encoders.data.collection import FolderFiles, ParquetFiles, Stream
from hf_encoders.embed import run
from tests.conftest import SAMPLES
from tests.helpers.embedding_files import manifest_of, run_embed, write_folder, write_parquet, write_tars
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.ranks import joined, on_ranks
from tests.helpers.stop_points import stop_at

ROWS = 120
SHARDS_OF_2 = ("--shard-rows", 2, "--batch-size", 2)
SHARDS_OF_4 = ("--shard-rows", 4, "--batch-size", 4)


def main(rank):
    """On each rank: go on with what was killed, and embed what divides unevenly."""
    folder = Path(sys.argv[1])
    run_embed(folder / "model", folder / "scenes.parquet", folder / "killed", *SHARDS_OF_2)
    run_embed(folder / "model", folder / "tars", folder / "tars-by-two", *SHARDS_OF_4)
    run_embed(folder / "model", folder / "one.parquet", folder / "one-by-two", *SHARDS_OF_4)
    return PartialState().num_processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model, scenes as parquet, and of the first fourteen two tar shards and a folder of files."""
    folder = tmp_path_factory.mktemp("resume")
    scenes = Dataset.from_parquet(str(SAMPLES / "objects" / "test.parquet"))
    tiny_model().save_pretrained(folder / "model")
    write_parquet(scenes.select(range(ROWS)), folder / "scenes.parquet")
    write_parquet(scenes.select(range(14)), folder / "few.parquet")
    write_parquet(scenes.select(range(1)), folder / "one.parquet")
    write_folder(scenes.select(range(14)), folder / "maps")
    (folder / "tars").mkdir()
    write_tars(scenes, folder / "tars", [10, 4])
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """What was embedded without interruption, by one process: folders of parquet, files and tar shards."""
    for name, source in {"few": "few.parquet", "files": "maps", "shards": "tars", "one": "one.parquet"}.items():
        run_embed(folder / "model", folder / source, folder / "whole" / name, *SHARDS_OF_4)
    run_embed(folder / "model", folder / "scenes.parquet", folder / "whole" / "scenes", *SHARDS_OF_2)
    return folder / "whole"


def embed_until_killed(*arguments):
    stop_at("os.rename", "records/0000004-00000.json")
    run_embed(*arguments)


@pytest.fixture(scope="module")
def killed(folder):
    """The shards of a process that got SIGKILL within its work. It is forked: to import everything takes longer."""
    arguments = (folder / "model", folder / "scenes.parquet", folder / "killed", *SHARDS_OF_2)
    process = multiprocessing.get_context("fork").Process(target=embed_until_killed, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (folder / "killed" / "manifest.json").exists()
    return list((folder / "killed" / "data").glob("0*"))


@pytest.fixture(scope="module")
def ranks(folder, killed):
    """What two processes made of it afterwards."""
    return on_ranks(__file__, folder)


def assert_same(output, expected):
    assert manifest_of(output)["shards"] == manifest_of(expected)["shards"]
    names = {file.name for file in (expected / "data").iterdir()}
    assert {file.name for file in (output / "data").iterdir()} == names
    for name in names:
        assert (output / "data" / name).read_bytes() == (expected / "data" / name).read_bytes()


def test_two_processes_finish_what_a_kill_interrupted(folder, killed, ranks, whole):
    assert len(killed) == 5 and ranks == [2, 2]  # the fifth without its record
    assert_same(folder / "killed", whole / "scenes")
    assert pq.read_table(folder / "killed" / "data")["id"].to_pylist() == list(range(ROWS))


@pytest.mark.parametrize(("output", "name"), [("tars-by-two", "shards"), ("one-by-two", "one")])
def test_two_processes_write_what_one_does(output, name, folder, ranks, whole):
    assert_same(folder / output, whole / name)


@pytest.fixture
def reads(monkeypatch):
    """Each read of a collection: the part, and how many of its rows were skipped."""
    seen = []
    for kind in (FolderFiles, ParquetFiles, Stream):

        def tables(self, part, skip, columns, original=kind.tables):
            seen.append((part.index, skip))
            return original(self, part, skip, columns)

        monkeypatch.setattr(kind, "tables", tables)
    return seen


@pytest.mark.parametrize(
    ("name", "source", "lost", "read"),
    [
        ("few", "few.parquet", [], []),
        ("few", "few.parquet", ["0000001-00000", "0000003-00000"], [(1, 0), (3, 0)]),
        ("files", "maps", ["0000002-00000"], [(2, 0)]),
        # A stream is read again from the first shard of the part that is not there.
        ("shards", "tars", ["0000000-00001"], [(0, 4)]),
        ("shards", "tars", ["0000000-00002", "0000001-00000"], [(0, 8), (1, 0)]),
    ],
)
def test_only_what_is_missing_is_read(name, source, lost, read, folder, whole, tmp_path, reads):
    output = shutil.copytree(whole / name, tmp_path / "out")
    (output / "manifest.json").unlink()
    for shard in lost:
        (output / "records" / f"{shard}.json").unlink()
    run_embed(folder / "model", folder / source, output, *SHARDS_OF_4)
    assert reads == read
    assert_same(output, whole / name)


@pytest.mark.parametrize("damage", ["changed", "missing", "record"])
def test_a_damaged_shard_is_written_again_with_a_warning(damage, folder, whole, tmp_path, reads, caplog):
    output = shutil.copytree(whole / "few", tmp_path / "out")
    shard = output / "data" / "0000002-00000.parquet"
    if damage == "changed":
        shard.write_bytes(shard.read_bytes().replace(b"PAR1", b"PAR2"))
    elif damage == "missing":
        shard.unlink()
    else:
        (output / "records" / "0000002-00000.json").write_text("{")
    run_embed(folder / "model", folder / "few.parquet", output, *SHARDS_OF_4)
    assert "0000002-00000" in caplog.text and "is written again" in caplog.text
    assert reads == [(2, 0)]
    assert_same(output, whole / "few")


@pytest.mark.parametrize(
    ("dataset", "options", "says"),
    [
        ("few.parquet", ("--shard-rows", 5), "shard_rows was 4, is 5"),
        ("few.parquet", ("--truncate-dim", 3), "options.truncate_dim was None, is '3'"),
        ("few.parquet", ("--columns", "noun"), "columns was ['caption', 'label', 'noun'], is ['noun']"),
        ("scenes.parquet", (), "dataset.digest was"),
        ("maps", (), "dataset.kind was 'parquet', is 'files'"),
    ],
)
def test_another_plan_is_refused(dataset, options, says, folder, whole, capsys):
    with pytest.raises(SystemExit):
        run_embed(folder / "model", folder / dataset, whole / "few", *SHARDS_OF_4, *options)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    what = "files or rows of the data" if dataset == "scenes.parquet" else "settings"
    assert f"{whole / 'few'}: was started with other {what}" in error and says in error


def test_another_model_is_refused_and_the_same_elsewhere_is_not(folder, whole, tmp_path, capsys):
    shutil.copytree(folder / "model", tmp_path / "moved")
    run_embed(tmp_path / "moved", folder / "few.parquet", whole / "few", *SHARDS_OF_4)
    other = tiny_model()
    other.depth_projection.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit):
        run_embed(tmp_path / "other", folder / "few.parquet", whole / "few", *SHARDS_OF_4)
    error = capsys.readouterr().err
    assert "model.fingerprint was" in error and f"the model was {folder / 'model'}, is {tmp_path / 'other'}" in error
    assert manifest_of(whole / "few")["rows"] == 14


def test_control_c_says_how_to_go_on(folder, whole, tmp_path, monkeypatch, capsys):
    output = shutil.copytree(whole / "few", tmp_path / "out")
    (output / "records" / "0000003-00000.json").unlink()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(run, "write_shard", interrupt)
        run_embed(folder / "model", folder / "few.parquet", output, *SHARDS_OF_4)
    assert end.value.code == 130
    assert f"interrupted; the same command goes on in {output}\n" in capsys.readouterr().err
    run_embed(folder / "model", folder / "few.parquet", output, *SHARDS_OF_4)
    assert_same(output, whole / "few")


def test_something_else_is_not_written_into(folder, tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SystemExit):
        run_embed(folder / "model", folder / "few.parquet", tmp_path)
    assert "exists already, with something else; choose another --output" in capsys.readouterr().err


if __name__ == "__main__":
    joined(main, join=False)  # the command does it
