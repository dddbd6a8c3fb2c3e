"""A Lance table of embeddings: what a folder holds, row by row, and only what is new is embedded."""

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate import PartialState
from datasets import ClassLabel, Dataset

from hf_encoders.embed import lance_run
from hf_encoders.embed.lance_table import INPUT, open_table, read_table
from hf_encoders.embed.row_digests import NONE, are_in
from tests.conftest import ROOT
from tests.helpers.embedding_files import grow, manifest_of, rows_of, run_embed, write_parquet, write_tars
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.ranks import joined, on_ranks

lance = pytest.importorskip("lance")

ROWS = 16
OF_4 = ("--shard-rows", 4, "--batch-size", 2)


def main(rank):
    """On each rank: embed a folder into a table."""
    folder = Path(sys.argv[1])
    run_embed(folder / "model", folder / "maps", folder / "maps.lance", *OF_4)
    return PartialState().num_processes


def columns_of(uri):
    return lance.dataset(str(uri)).to_table().to_pydict()


def assert_as_folder(repo, data, uri, *options):
    """The same ids, each with the embedding that a new folder has."""
    run_embed(repo, data, fresh := uri.with_name("fresh"), *OF_4, *options)
    rows, table = rows_of(fresh), columns_of(uri)
    expected = dict(zip(rows.with_format(None)["id"], rows["embedding"][:], strict=True))
    assert len(table["id"]) == len(expected) and set(table["id"]) == set(expected)
    for name, embedding in zip(table["id"], table["embedding"], strict=True):
        np.testing.assert_allclose(embedding, expected[name], atol=1e-5, err_msg=str(name))
    assert read_table(uri)[1]["dataset"] == manifest_of(fresh)["dataset"]
    shutil.rmtree(fresh)


@pytest.fixture
def embedded(monkeypatch):
    """The names of the rows that are embedded."""
    seen = []
    original = lance_run.RowEmbedder.embed

    def noting(self, table, ids):
        seen.extend(ids.to_pylist())
        return original(self, table, ids)

    monkeypatch.setattr(lance_run.RowEmbedder, "embed", noting)
    return seen


def test_a_folder_that_grew(repo, maps, tmp_path, capsys, embedded):
    table = tmp_path / "maps.lance"
    run_embed(repo, maps, table, *OF_4)
    assert_as_folder(repo, maps, table)
    numbers = lance.dataset(str(table)).to_table(columns=["id"], with_row_id=True).to_pydict()
    grow(maps)
    embedded.clear()
    capsys.readouterr()
    run_embed(repo, maps, table, *OF_4, "--format", "json")
    figures = json.loads(capsys.readouterr().out)
    names = ("rows", "new_rows", "changed_rows", "removed_rows", "bad_rows")
    assert [figures[name] for name in names] == [15, 2, 1, 1, 0]
    assert sorted(embedded) == ["b/c/005.png", "b/c/012.png", "b/c/015.png"]
    assert_as_folder(repo, maps, table)
    # Rows that stay keep their numbers.
    later = lance.dataset(str(table)).to_table(columns=["id"], with_row_id=True).to_pydict()
    before = dict(zip(numbers["id"], numbers["_rowid"], strict=True))
    same = [name for name, number in zip(later["id"], later["_rowid"], strict=True) if before.get(name) == number]
    assert len(same) == 12

    version = lance.dataset(str(table)).version
    embedded.clear()
    run_embed(repo, maps, table, *OF_4)
    assert not embedded and lance.dataset(str(table)).version == version
    assert "new rows" not in capsys.readouterr().out


def test_the_table_says_what_made_it_and_keeps_columns_with_classes_by_name(repo, scenes, tmp_path):
    names = ["chair", "lamp"]
    rows = scenes.add_column("kind", [number % 2 for number in range(ROWS)]).cast_column(
        "kind", ClassLabel(names=names)
    )
    data, table = write_parquet(rows, tmp_path / "scenes.parquet"), tmp_path / "scenes.lance"
    run_embed(repo, data, table, *OF_4, "--id-column", "scene", "--columns", "kind", "caption")
    content = columns_of(table)
    assert list(content) == ["id", "kind", "caption", INPUT, "embedding"]
    assert dict(zip(content["id"], content["kind"], strict=True))["scene 3"] == "lamp"
    assert lance.dataset(str(table)).count_rows("kind = 'lamp'") == ROWS // 2
    run_embed(repo, data, folder := tmp_path / "out", *OF_4, "--id-column", "scene", "--columns", "kind", "caption")
    manifest = read_table(table)[1]
    assert manifest["model"] == manifest_of(folder)["model"] and manifest["versions"]["hf_encoders"]
    assert manifest["is_finished"] and manifest["rows"] == ROWS


def test_parquet_files_that_came_and_went(repo, scenes, tmp_path, embedded):
    (data := tmp_path / "data").mkdir()
    files = {"a": range(3), "c": range(3, 8), "d": range(8, 10)}
    for name, numbers in files.items():
        write_parquet(scenes.select(numbers), data / f"{name}.parquet")
    table, options = tmp_path / "t.lance", ("--id-column", "scene", "--columns")
    run_embed(repo, data, table, *OF_4, *options)
    write_parquet(scenes.select(range(10, 14)), data / "b.parquet")
    (data / "a.parquet").unlink()
    embedded.clear()
    run_embed(repo, data, table, *OF_4, *options)
    assert embedded == [f"scene {number}" for number in range(10, 14)]
    assert_as_folder(repo, data, table, *options)


def test_rows_that_get_other_numbers_are_embedded_again(repo, scenes, tmp_path, embedded):
    (data := tmp_path / "data").mkdir()
    write_parquet(scenes.select(range(3)), data / "a.parquet")
    write_parquet(scenes.select(range(3, 6)), data / "c.parquet")
    run_embed(repo, data, table := tmp_path / "t.lance", *OF_4)
    write_parquet(scenes.select(range(6, 8)), data / "b.parquet")
    embedded.clear()
    run_embed(repo, data, table, *OF_4)
    assert sorted(embedded) == list(range(3, 8))
    assert_as_folder(repo, data, table)


def test_shards_of_a_stream_that_grew(repo, scenes, tmp_path, embedded):
    (data := tmp_path / "tars").mkdir()
    write_tars(scenes, data, [4, 5])
    times = {path: path.stat().st_mtime_ns for path in data.iterdir()}
    run_embed(repo, data, table := tmp_path / "t.lance", *OF_4)
    write_tars(scenes, data, [4, 5, 3])
    for path, time in times.items():
        os.utime(path, ns=(time, time))
    embedded.clear()
    run_embed(repo, data, table, *OF_4)
    assert embedded == ["scene009", "scene010", "scene011"]
    assert_as_folder(repo, data, table)


def test_rows_that_cannot_be_embedded_are_reported_and_tried_again(repo, maps, tmp_path, capsys):
    (maps / "a" / "001.png").write_bytes(b"no picture")
    table = tmp_path / "t.lance"
    with pytest.raises(SystemExit):
        run_embed(repo, maps, table, *OF_4)
    assert "1 row cannot be embedded; the first: a/001.png" in capsys.readouterr().err
    with pytest.raises(ValueError, match="not finished; run the same"):
        read_table(table)
    run_embed(repo, maps, table, *OF_4, "--on-error", "skip", "--format", "json")
    assert json.loads(capsys.readouterr().out)["bad_rows"] == 1
    assert read_table(table)[1]["bad_rows"]["first"][0]["id"] == "a/001.png"
    shutil.copyfile(maps / "a" / "000.png", maps / "a" / "001.png")
    run_embed(repo, maps, table, *OF_4)
    assert_as_folder(repo, maps, table)


def kill_at_third_commit(*arguments):
    original, left = lance_run._Share._append, [2]

    def append(self):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self)

    lance_run._Share._append = append
    run_embed(*arguments)


def test_the_same_command_goes_on_after_a_kill(repo, maps, tmp_path, embedded):
    table = tmp_path / "t.lance"
    command = [sys.executable, __file__, str(repo), str(maps), str(table)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    there = open_table(table).count_rows()
    assert there == 8
    run_embed(repo, maps, table, *OF_4)
    assert len(embedded) == 14 - there
    assert_as_folder(repo, maps, table)


def test_two_processes_write_what_one_does(repo, maps, tmp_path):
    shutil.copytree(repo, tmp_path / "model")
    run_embed(repo, maps, tmp_path / "maps.lance", "--shard-rows", 3)
    grow(maps)
    assert on_ranks(__file__, tmp_path) == [2, 2]
    assert_as_folder(repo, maps, tmp_path / "maps.lance")


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        run_embed(*arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_another_model_other_options_or_other_data_are_refused(repo, scenes, maps, tmp_path, capsys):
    table = tmp_path / "t.lance"
    run_embed(repo, maps, table, *OF_4)
    version = lance.dataset(str(table)).version
    other = tiny_model()
    other.depth_projection.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    assert "model.fingerprint was" in refused(capsys, tmp_path / "other", maps, table, *OF_4)
    assert "dtype was 'float32', is 'float16'" in refused(capsys, repo, maps, table, "--embedding-dtype", "float16")
    (tmp_path / "none").mkdir()
    scenes["depth"][0].save(tmp_path / "none" / "sofa.png")
    assert "other files or rows of the data" in refused(capsys, repo, tmp_path / "none", table)
    assert lance.dataset(str(table)).version == version
    run_embed(repo, maps, table, "--shard-rows", 7)  # how many rows are written at a time may change


def test_columns_of_other_types_are_refused(repo, scenes, tmp_path, capsys):
    options = ("--id-column", "scene", "--columns", "note")
    for values in (list(range(ROWS)), [str(number) for number in range(ROWS)]):
        write_parquet(scenes.add_column("note", values), tmp_path / "scenes.parquet")
        if isinstance(values[0], int):
            run_embed(repo, tmp_path / "scenes.parquet", tmp_path / "t.lance", *options)
    error = refused(capsys, repo, tmp_path / "scenes.parquet", tmp_path / "t.lance", *options)
    assert "its column 'note' holds int64, that of the data string; choose another --output" in error


@pytest.mark.parametrize("name", [INPUT, "a.b"])
def test_columns_that_a_table_cannot_have_are_refused(name, repo, scenes, tmp_path, capsys):
    write_parquet(scenes.add_column(name, [1] * ROWS), tmp_path / "scenes.parquet")
    error = refused(capsys, repo, tmp_path / "scenes.parquet", tmp_path / "t.lance")
    assert repr(name) in error and "leave it out by --columns" in error
    assert not (tmp_path / "t.lance").exists()


def test_columns_of_many_types_are_kept(repo, scenes, tmp_path):
    rows = scenes.add_column("tags", [["a", None]] * ROWS).add_column("more", [{"x": 1, "y": ["b"]}] * ROWS)
    kinds = ClassLabel(names=["chair", "lamp"])
    rows = rows.add_column("kind", [-1, None, 0, 1] * 4).cast_column("kind", kinds)
    data = write_parquet(rows, tmp_path / "scenes.parquet")
    for _ in range(2):
        run_embed(repo, data, tmp_path / "t.lance", "--columns", "tags", "more", "kind")
    content = columns_of(tmp_path / "t.lance")
    assert content["tags"][0] == ["a", None] and content["more"][0] == {"x": 1, "y": ["b"]}
    assert content["kind"][:4] == [None, None, "chair", "lamp"]


def test_an_embedding_without_a_direction_is_a_bad_row(repo, maps, tmp_path, capsys, monkeypatch):
    original = lance_run.RowEmbedder.embed

    def without(self, table, ids):
        made = original(self, table, ids)
        values = np.array(made.table["embedding"].to_pylist(), np.float32)
        values[0] = 0
        rows = made.table.set_column(1, "embedding", lance_run.pa.FixedSizeListArray.from_arrays(values.reshape(-1), 8))
        return dataclasses.replace(made, table=rows.cast(made.table.schema))

    monkeypatch.setattr(lance_run.RowEmbedder, "embed", without)
    run_embed(repo, maps, tmp_path / "t.lance", "--on-error", "skip")
    assert "has no direction" in capsys.readouterr().err
    assert open_table(tmp_path / "t.lance").count_rows() == 13


def test_the_backend_that_was_chosen_stays(repo, maps, tmp_path, monkeypatch):
    def choose(first):
        monkeypatch.setattr("hf_encoders.embed.backend.chosen_backend", lambda *arguments: first)

    choose("torch")
    run_embed(repo, maps, tmp_path / "t.lance", "--backend", "auto")
    choose("openvino")  # as for another number of rows
    run_embed(repo, maps, tmp_path / "t.lance", "--backend", "auto")
    assert read_table(tmp_path / "t.lance")[1]["options"]["backend"] == "torch"


def test_what_is_no_table_of_embeddings_is_left_alone(repo, maps, tmp_path, capsys):
    (folder := tmp_path / "folder.lance").mkdir()
    (folder / "mine.txt").write_text("mine")
    assert "exists already, and is no Lance table" in refused(capsys, repo, maps, folder)
    lance.write_dataset(Dataset.from_dict({"a": [1]}).data.table, str(tmp_path / "theirs.lance"))
    assert "hf-encoders embed did not write" in refused(capsys, repo, maps, tmp_path / "theirs.lance")
    assert sorted(path.name for path in folder.iterdir()) == ["mine.txt"]


def test_without_lance_the_extra_is_named(repo, maps, tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    without = lambda name, *more: None if name == "lance" else found(name, *more)  # noqa: E731
    monkeypatch.setattr("hf_encoders.embed.lance_table.find_spec", without)
    error = refused(capsys, repo, maps, tmp_path / "t.lance")
    assert "needs pylance: pip install 'hf-encoders[lance]'" in error
    assert not (tmp_path / "t.lance").exists()


def test_halves_are_stored_as_such(repo, maps, tmp_path):
    run_embed(repo, maps, tmp_path / "t.lance", "--embedding-dtype", "float16")
    assert str(lance.dataset(str(tmp_path / "t.lance")).schema.field("embedding").type).startswith(
        "fixed_size_list<item: halffloat"
    )


def test_digests_are_found_among_sorted_ones():
    known = np.array([2, 5, 9])
    assert are_in(np.array([1, 2, 9, 10]), known).tolist() == [False, True, True, False]
    assert are_in(np.array([1]), NONE).tolist() == [False]


if __name__ == "__main__":
    if len(sys.argv) > 2:
        repo, data, table = sys.argv[1:]
        kill_at_third_commit(repo, data, table, *OF_4)
    joined(main, join=False)  # the command does it
