"""Input files that change are embedded again, and counted; those that did not are not read."""

import os
import shutil

import numpy as np
import pytest
from datasets import Dataset, Image
from PIL import Image as Pillow

from hf_encoders.embed.column import with_embeddings
from tests.helpers.embedding_files import manifest_of, rows_of, run_embed, write_folder, write_parquet, write_tars
from tests.helpers.multimodal_models import tiny_model

pytestmark = pytest.mark.numeric

ROWS = 14
SHARDS_OF_4 = ("--shard-rows", 4, "--batch-size", 2)
PATHS = ("--column", "depth")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def repo(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("changed") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def scenes(objects_test):
    return objects_test.select(range(ROWS))


def changed_scenes(scenes, row):
    """The scenes with one map upside down."""
    maps = [
        np.asarray(depth)[::-1] if index == row else np.asarray(depth) for index, depth in enumerate(scenes["depth"])
    ]
    pictures = [Pillow.fromarray(np.ascontiguousarray(each)) for each in maps]
    columns = {name: pictures if name == "depth" else scenes[name][:] for name in scenes.column_names}
    return Dataset.from_dict(columns, features=scenes.features)


def write(kind, scenes, place):
    """A folder of maps, a parquet file, tar shards, or a parquet file of paths; returns its name."""
    if kind == "parquet":
        return write_parquet(scenes, place / "scenes.parquet")
    if kind == "tars":
        (place / "tars").mkdir(exist_ok=True)
        write_tars(scenes, place / "tars", [10, 4])
        return place / "tars"
    folder = write_folder(scenes, place / "maps")
    if kind == "folder":
        return folder
    files = sorted(str(path) for path in folder.rglob("*.png"))
    path = place / "paths.parquet"
    if not path.exists():
        Dataset.from_dict({"depth": files}).to_parquet(path)
    return path


# Kind → the rows that are embedded again: of the shard, of all rows in the file, of both tars.
AGAIN = {"folder": 4, "paths": 4, "parquet": 14, "tars": 14}


@pytest.mark.parametrize("kind", AGAIN)
def test_what_changed_is_embedded_again_and_counted(kind, model, repo, scenes, tmp_path, capsys):
    data, output = write(kind, scenes, tmp_path), tmp_path / "out"
    options = SHARDS_OF_4 + (PATHS if kind == "paths" else ())
    run_embed(repo, data, output, *options)
    assert "embedded again" not in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in (output / "data").iterdir()}
    run_embed(repo, data, output, *options)
    assert {path: path.stat().st_mtime_ns for path in (output / "data").iterdir()} == times
    assert "embedded again" not in capsys.readouterr().out

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    other = changed_scenes(scenes, 5)
    write(kind, other, tmp_path)
    for path, time in before.items():  # as if only the one file were new
        if path.name != "005.png":
            os.utime(path, ns=(time, time))
    run_embed(repo, data, output, *options)
    expected = model.encode_depth(other["depth"], convert_to="numpy")
    np.testing.assert_allclose(rows_of(output)["embedding"][:], expected, atol=1e-5)
    assert f"embedded again: {AGAIN[kind]};" in capsys.readouterr().out
    assert manifest_of(output)["rows"] == ROWS


def test_a_file_of_the_same_size_and_second_is_seen(model, repo, scenes, tmp_path):
    """Nanoseconds count."""
    folder, output = tmp_path / "maps", tmp_path / "out"
    folder.mkdir()
    path = folder / "0.npy"
    maps = [np.full((40, 50), value, np.float32) + np.eye(40, 50, dtype=np.float32) * value for value in (1, 2)]
    np.save(path, maps[0])
    time = path.stat().st_mtime_ns
    run_embed(repo, folder, output)
    np.save(path, maps[1][:, ::-1].copy())
    os.utime(path, ns=(time + 1, time + 1))
    run_embed(repo, folder, output)
    expected = model.encode_depth([maps[1][:, ::-1].copy()], convert_to="numpy")
    np.testing.assert_allclose(rows_of(output)["embedding"][:], expected, atol=1e-5)


def test_a_shard_that_lost_rows_leaves_nothing_behind(repo, scenes, tmp_path):
    data, output = write("tars", scenes, tmp_path), tmp_path / "out"
    run_embed(repo, data, output, *SHARDS_OF_4)
    write_tars(scenes, data, [3, 4])  # the first tar had three shards of four rows
    run_embed(repo, data, output, *SHARDS_OF_4)
    assert manifest_of(output)["rows"] == 7 == len(rows_of(output))
    assert sorted(path.name for path in (output / "data").iterdir()) == [
        "0000000-00000.parquet",
        "0000001-00000.parquet",
    ]


def test_a_run_that_is_stopped_while_it_embeds_again_goes_on(repo, scenes, tmp_path, monkeypatch):
    data, output = write("parquet", scenes, tmp_path), tmp_path / "out"
    run_embed(repo, data, output, *SHARDS_OF_4)
    write("parquet", changed_scenes(scenes, 5), tmp_path)
    run_embed(repo, data, whole := tmp_path / "whole", *SHARDS_OF_4)
    from hf_encoders.embed import run

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        original, left = run.write_shard, [2]

        def write_some(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("stopped")
            return original(*arguments)

        patch.setattr(run, "write_shard", write_some)
        run_embed(repo, data, output, *SHARDS_OF_4)
    assert not (output / "manifest.json").exists()  # nobody searches half of it
    run_embed(repo, data, output, *SHARDS_OF_4)
    for path in (whole / "data").iterdir():
        assert (output / "data" / path.name).read_bytes() == path.read_bytes()


def test_an_older_folder_is_refused(repo, scenes, tmp_path, capsys):
    data, output = write("folder", scenes, tmp_path), tmp_path / "out"
    run_embed(repo, data, output)
    plan = output / "plan.json"
    plan.write_text(plan.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(SystemExit):
        run_embed(repo, data, output)
    assert "was started by an older hf_encoders" in capsys.readouterr().err


@pytest.mark.parametrize("as_pictures", [False, True])
def test_a_column_of_paths_follows_its_files(as_pictures, model, scenes, tmp_path):
    folder = write_folder(scenes.select(range(4)), tmp_path / "maps")
    files = sorted(str(path) for path in folder.rglob("*.png"))
    rows = Dataset.from_dict({"depth": files})
    if as_pictures:
        rows = rows.cast_column("depth", Image())
    rows.to_parquet(tmp_path / "rows.parquet")
    dataset = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache"))

    def embedded():
        return with_embeddings(dataset, model, "depth", "depth").with_format("numpy")["embedding"][:]

    first = embedded()
    shutil.copyfile(files[1], files[0])
    second = embedded()
    np.testing.assert_allclose(second[0], first[1], atol=1e-6)
    assert abs(first[0] - second[0]).max() > 1e-3
