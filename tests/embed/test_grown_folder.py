"""A folder of embeddings follows its data: what is new is embedded, what went goes, and the rest is left alone."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate import PartialState
from datasets import load_dataset

from hf_encoders.embed import run
from hf_encoders.embed.growth import ITEMS
from hf_encoders.search import EmbeddingIndex
from tests.helpers.embedding_files import grow, manifest_of, rows_of, run_embed, write_parquet, write_tars
from tests.helpers.ranks import joined, on_ranks

ROWS = 16
SHARDS_OF_4 = ("--shard-rows", 4, "--batch-size", 2)


def main(rank):
    """On each rank: follow a folder that grew."""
    folder = Path(sys.argv[1])
    run_embed(folder / "model", folder / "maps", folder / "out", *SHARDS_OF_4)
    return PartialState().num_processes


def embeddings_of(output, name="id"):
    rows = rows_of(output)
    return dict(zip(rows.with_format(None)[name], rows["embedding"][:], strict=True))


def assert_as_new(repo, data, output, *options):
    """The same rows as a new folder has, each with the same embedding."""
    run_embed(repo, data, fresh := output.with_name("fresh"), *options)
    now, expected = embeddings_of(output), embeddings_of(fresh)
    assert now.keys() == expected.keys() and len(now) == manifest_of(output)["rows"]
    for name, embedding in expected.items():
        np.testing.assert_allclose(now[name], embedding, atol=1e-5, err_msg=str(name))
    assert manifest_of(output)["dataset"] == manifest_of(fresh)["dataset"]
    shutil.rmtree(fresh)


def times_of(output):
    return {path.name: path.stat().st_mtime_ns for path in (output / "data").iterdir()}


def result_of(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_folder_of_files_that_grew(repo, maps, tmp_path, capsys):
    output = tmp_path / "out"
    run_embed(repo, maps, output, *SHARDS_OF_4)
    before, order = times_of(output), rows_of(output).with_format(None)["id"]
    grow(maps)
    capsys.readouterr()
    run_embed(repo, maps, output, *SHARDS_OF_4, "--format", "json")
    figures = result_of(capsys)
    assert (figures["new_rows"], figures["removed_rows"], figures["rows"]) == (2, 1, 15)
    after = times_of(output)
    # Of 000-003, of 004-008, of 009-012 and of 013-014: the first lost a file, in the third one changed.
    assert [after[name] == before[name] for name in sorted(before)] == [False, True, False, True]
    assert figures["changed_rows"] == 3 + 4
    assert len(after) == 5
    assert rows_of(output).with_format(None)["id"] == [
        *(name for name in order if "001" not in name), "b/c/005.png", "b/c/015.png"
    ]  # fmt: skip
    assert_as_new(repo, maps, output, *SHARDS_OF_4)
    assert len(load_dataset(str(output / "data"), split="train")) == 15

    before = times_of(output)
    run_embed(repo, maps, output, *SHARDS_OF_4)
    said = capsys.readouterr().out
    assert "new rows" not in said and "again" not in said
    assert times_of(output) == before


def test_people_are_told(repo, maps, tmp_path, capsys):
    run_embed(repo, maps, tmp_path / "out", *SHARDS_OF_4)
    grow(maps)
    run_embed(repo, maps, tmp_path / "out", *SHARDS_OF_4)
    assert "embedded again: 7; new rows: 2; removed rows: 1;" in capsys.readouterr().out


def test_only_what_is_new_is_embedded(repo, maps, tmp_path, monkeypatch):
    run_embed(repo, maps, tmp_path / "out", *SHARDS_OF_4)
    for name in ("005.png", "015.png"):
        (tmp_path / name).rename(maps / "b/c" / name)
    seen = []
    original = run.RowEmbedder.__call__

    def noting(self, table, part, start):
        seen.extend(table["file"].to_pylist())
        return original(self, table, part, start)

    monkeypatch.setattr(run.RowEmbedder, "__call__", noting)
    run_embed(repo, maps, tmp_path / "out", *SHARDS_OF_4)
    assert [Path(file).name for file in seen] == ["005.png", "015.png"]


def test_a_shard_whose_files_are_all_gone_goes(repo, maps, tmp_path):
    output = tmp_path / "out"
    run_embed(repo, maps, output, *SHARDS_OF_4)
    for name in ("003", "004", "006", "007"):
        next(maps.rglob(f"{name}.png")).unlink()
    for name in ("000", "001", "002"):
        (maps / "a" / f"{name}.png").unlink()
    run_embed(repo, maps, output, *SHARDS_OF_4)
    assert "0000000-00000.parquet" not in times_of(output)
    assert_as_new(repo, maps, output, *SHARDS_OF_4)
    (maps / "a" / "000.png").write_bytes((maps / "b/c" / "008.png").read_bytes())  # the name comes back
    run_embed(repo, maps, output, *SHARDS_OF_4)
    assert_as_new(repo, maps, output, *SHARDS_OF_4)


def test_other_data_are_refused_in_one_line_and_left_alone(repo, scenes, maps, tmp_path, capsys):
    output = tmp_path / "out"
    run_embed(repo, maps, output, *SHARDS_OF_4)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    other = tmp_path / "other"
    other.mkdir()
    scenes["depth"][0].save(other / "sofa.png")
    for arguments, words in (
        ((other, output, *SHARDS_OF_4), "other files or rows of the data"),
        ((maps, output, "--shard-rows", 5), "shard_rows was 4, is 5"),
    ):
        grow(maps) if arguments[0] == maps else None
        with pytest.raises(SystemExit):
            run_embed(repo, *arguments)
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert words in error and "another --output" in error
        assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def write_files(scenes, folder, **rows):
    folder.mkdir(exist_ok=True)
    for name, numbers in rows.items():
        write_parquet(scenes.select(numbers), folder / f"{name}.parquet")
    return folder


def test_parquet_files_that_came_and_went(repo, scenes, tmp_path, capsys):
    options = (*SHARDS_OF_4, "--id-column", "scene", "--columns")
    data, output = write_files(scenes, tmp_path / "data", a=range(3), c=range(3, 8), d=range(8, 10)), tmp_path / "out"
    run_embed(repo, data, output, *options)
    before = times_of(output)
    write_files(scenes, data, b=range(10, 14))  # in the middle
    run_embed(repo, data, output, *options, "--format", "json")
    assert {name: time for name, time in times_of(output).items() if name in before} == before
    assert_as_new(repo, data, output, *options)
    capsys.readouterr()

    write_files(scenes, data, c=[3, 4, 5, 15])  # other rows
    (data / "a.parquet").unlink()
    run_embed(repo, data, output, *options, "--format", "json")
    figures = result_of(capsys)
    assert (figures["new_rows"], figures["removed_rows"], figures["changed_rows"]) == (0, 3, 4)
    assert_as_new(repo, data, output, *options)


def test_rows_that_are_named_by_their_numbers_keep_them(repo, scenes, tmp_path, capsys):
    data, output = write_files(scenes, tmp_path / "data", b=range(5), c=range(5, 8)), tmp_path / "out"
    run_embed(repo, data, output, *SHARDS_OF_4)
    write_files(scenes, data, d=range(8, 10))
    run_embed(repo, data, output, *SHARDS_OF_4)  # after the others: nothing moves
    assert_as_new(repo, data, output, *SHARDS_OF_4)
    (data / "d.parquet").unlink()
    run_embed(repo, data, output, *SHARDS_OF_4)
    assert_as_new(repo, data, output, *SHARDS_OF_4)
    write_files(scenes, data, a=range(10, 12))
    with pytest.raises(SystemExit):
        run_embed(repo, data, output, *SHARDS_OF_4)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "names rows by their numbers" in error and "b.parquet" in error and "--id-column" in error
    assert manifest_of(output)["rows"] == 8


def test_shards_of_a_stream_still_ask_for_another_output(repo, scenes, tmp_path, capsys):
    (data := tmp_path / "tars").mkdir()
    write_tars(scenes, data, [4])
    run_embed(repo, data, tmp_path / "out", *SHARDS_OF_4)
    write_tars(scenes, data, [4, 4])
    with pytest.raises(SystemExit):
        run_embed(repo, data, tmp_path / "out", *SHARDS_OF_4)
    assert "other files or rows of the data" in capsys.readouterr().err


@pytest.mark.parametrize("point", ["unlinked", "layout", "plan", "shard"])
def test_a_run_that_was_stopped_while_it_followed_goes_on(point, repo, maps, tmp_path, monkeypatch):
    output = tmp_path / "out"
    run_embed(repo, maps, output, *SHARDS_OF_4)
    grow(maps)
    from hf_encoders.embed import growth

    module, name, calls = {
        "unlinked": (growth, "_write_layout", 0),
        "layout": (growth, "follow_plan", 0),
        "plan": (run, "read_records", 0),
        "shard": (run, "write_shard", 1),
    }[point]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        stop_after(patch, module, name, calls)
        run_embed(repo, maps, output, *SHARDS_OF_4)
    assert not (output / "manifest.json").exists()  # nobody searches half of it
    run_embed(repo, maps, output, *SHARDS_OF_4)
    assert_as_new(repo, maps, output, *SHARDS_OF_4)


def stop_after(patch, module, name, calls):
    original, left = getattr(module, name), [calls]

    def some(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("stopped")
        return original(*arguments)

    patch.setattr(module, name, some)


def test_a_folder_of_an_older_release_grows_once_its_order_is_known(repo, maps, tmp_path, capsys):
    output = tmp_path / "out"
    run_embed(repo, maps, output, *SHARDS_OF_4)
    (output / ITEMS).unlink()
    (tmp_path / "005.png").rename(maps / "b/c" / "005.png")
    with pytest.raises(SystemExit):
        run_embed(repo, maps, output, *SHARDS_OF_4)
    assert "other files or rows of the data" in capsys.readouterr().err
    (maps / "b/c" / "005.png").rename(tmp_path / "005.png")
    run_embed(repo, maps, output, *SHARDS_OF_4)
    (tmp_path / "005.png").rename(maps / "b/c" / "005.png")
    run_embed(repo, maps, output, *SHARDS_OF_4)
    assert_as_new(repo, maps, output, *SHARDS_OF_4)


def test_two_processes_follow_as_one_does(repo, maps, tmp_path):
    shutil.copytree(repo, tmp_path / "model")
    run_embed(repo, maps, tmp_path / "out", *SHARDS_OF_4)
    grow(maps)
    assert on_ranks(__file__, tmp_path) == [2, 2]
    assert_as_new(repo, maps, tmp_path / "out", *SHARDS_OF_4)


def test_the_index_of_a_folder_that_grew_has_its_rows(repo, maps, tmp_path, caplog):
    output = tmp_path / "out"
    run_embed(repo, maps, output, *SHARDS_OF_4)
    EmbeddingIndex.from_folder(output).save(saved := tmp_path / "index")
    assert len(EmbeddingIndex.load(saved)) == 14 and not caplog.text
    grow(maps)
    run_embed(repo, maps, output, *SHARDS_OF_4)
    assert len(EmbeddingIndex.load(saved)) == 14
    assert f"{output}, from which this index was made, has other rows now" in caplog.text
    index = EmbeddingIndex.from_folder(output)
    for name, embedding in embeddings_of(output).items():
        assert name in {hit.row["id"] for hit in index.search(embedding, 2) if hit.score > 0.99999}
    assert len(list(output.glob("vectors-*.npy"))) == 1


if __name__ == "__main__":
    joined(main, join=False)  # the command does it
