"""`hf-encoders embed`: every kind of collection, what the result holds, and what is said of bad input."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, load_dataset

from hf_encoders.commands import main as cli
from hf_encoders.fingerprint import fingerprint, sha256
from hf_encoders.search.index import EmbeddingIndex
from tests.helpers.embedding_files import manifest_of, rows_of, run_embed, write_folder, write_parquet, write_tars
from tests.helpers.multimodal_models import tiny_model

pytestmark = pytest.mark.numeric

ROWS = 20


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def repo(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scenes(objects_test):
    return objects_test.select(range(ROWS))


@pytest.fixture(scope="module")
def expected(model, scenes):
    return model.encode_depth(scenes["depth"], convert_to="numpy")


@pytest.fixture(scope="module")
def parquet(scenes, tmp_path_factory):
    return write_parquet(scenes, tmp_path_factory.mktemp("data") / "scenes.parquet")


@pytest.fixture(scope="module")
def embedded(repo, parquet, tmp_path_factory):
    """The folder of an embedded parquet file; nobody writes into it."""
    output = tmp_path_factory.mktemp("embedded") / "out"
    run_embed(repo, parquet, output, "--shard-rows", 8, "--batch-size", 4)
    return output


def test_a_parquet_file(embedded, scenes, expected, model, parquet):
    rows = rows_of(embedded)
    assert rows.column_names == ["id", "caption", "label", "noun", "embedding"]
    assert rows.features["embedding"].length == 8
    assert rows["id"][:].tolist() == list(range(ROWS))
    assert list(rows["caption"][:]) == list(scenes["caption"][:])
    assert rows.features["label"] == scenes.features["label"]
    np.testing.assert_allclose(rows["embedding"][:], expected, atol=1e-5)

    manifest = manifest_of(embedded)
    assert manifest["model"]["fingerprint"] == fingerprint(model)
    assert [shard["rows"] for shard in manifest["shards"]] == [8, 8, 4]
    assert all(sha256(embedded / shard["file"]) == shard["sha256"] for shard in manifest["shards"])
    assert (manifest["rows"], manifest["bad_rows"]["count"], manifest["dtype"]) == (ROWS, 0, "float32")
    assert (manifest["modality"], manifest["column"], manifest["dataset"]["source"]) == ("depth", "depth", str(parquet))


def test_the_folder_of_the_shards_is_a_data_set(embedded):
    assert load_dataset(str(embedded / "data"), split="train").num_rows == ROWS


def test_classes_keep_their_names(repo, scenes, tmp_path):
    names = ClassLabel(names=["red", "green"])
    kinds = [number % 2 for number in range(ROWS)]
    table = scenes.select(range(ROWS)).select_columns(["depth"]).add_column("kind", kinds, feature=names)
    run_embed(repo, write_parquet(table, tmp_path / "kinds.parquet"), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert rows.features["kind"].names == names.names and rows.with_format(None)["kind"][:] == kinds


def test_a_folder_of_files(repo, scenes, expected, tmp_path):
    folder = write_folder(scenes, tmp_path / "maps")
    (folder / "a" / "0000.png").write_bytes(b"no map")
    run_embed(repo, folder, tmp_path / "out", "--shard-rows", 6, "--embedding-dtype", "float16", "--on-error", "skip")
    rows = rows_of(tmp_path / "out")
    assert rows["id"][:3].tolist() == ["a/000.png", "a/001.png", "a/002.png"]
    assert rows.features["embedding"].feature.dtype == "float16"
    np.testing.assert_allclose(rows["embedding"][:], expected, atol=1e-3)
    manifest = manifest_of(tmp_path / "out")
    assert [shard["rows"] for shard in manifest["shards"]] == [5, 6, 6, 3]
    assert manifest["bad_rows"]["count"] == 1
    assert manifest["bad_rows"]["first"][0]["id"] == "a/0000.png"
    assert "not a readable depth map" in manifest["bad_rows"]["first"][0]["reason"]


def test_webdataset_shards(repo, scenes, expected, tmp_path):
    folder = write_tars(scenes, tmp_path, [9, 11])
    run_embed(repo, folder, tmp_path / "out", "--shard-rows", 4)
    rows = rows_of(tmp_path / "out")
    assert rows["id"][:2].tolist() == ["scene000", "scene001"]
    assert rows.column_names == ["id", "json", "embedding"]
    assert rows[5]["json"]["caption"] == scenes[5]["caption"]
    np.testing.assert_allclose(rows["embedding"][:], expected, atol=1e-5)
    assert [shard["rows"] for shard in manifest_of(tmp_path / "out")["shards"]] == [4, 4, 1, 4, 4, 3]


def test_columns_and_options_are_chosen(repo, scenes, model, parquet, tmp_path):
    cli.command(
        ["embed", str(repo), str(parquet), "--output", str(tmp_path / "out")]
        + ["--modality", "text", "--column", "caption", "--id-column", "noun", "--columns", "image", "caption"]
        + ["--truncate-dim", "3", "--normalize"]
    )
    rows = rows_of(tmp_path / "out").with_format(None)
    assert rows.column_names == ["id", "image", "caption", "embedding"]
    assert rows["id"][:] == scenes["noun"][:]
    assert rows[7]["image"].tobytes() == scenes[7]["image"].tobytes()
    cut = model.encode_text(list(scenes["caption"]), truncate_dim=3, normalize=True, convert_to="numpy")
    np.testing.assert_allclose(np.array(rows["embedding"][:]), cut, atol=1e-5)


def test_bad_rows_are_left_out_counted_and_limited(repo, scenes, expected, tmp_path, capsys):
    pictures = scenes.data["depth"].to_pylist()[:ROWS]  # encoded, and unknown to be pictures
    for number in (2, 3, 11):
        pictures[number] = {"bytes": b"damaged", "path": None}
    table = Dataset.from_dict({"depth": pictures, "id": [f"s{number}" for number in range(ROWS)]})
    path = write_parquet(table, tmp_path / "bad.parquet")
    options = ("--shard-rows", 4, "--batch-size", 4)
    with pytest.raises(SystemExit):
        run_embed(repo, path, tmp_path / "out", *options, "--max-bad-rows", 1)
    assert "2 rows cannot be embedded, more than the 1 of --max-bad-rows; the first: s2: " in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.json").exists()

    run_embed(repo, path, tmp_path / "out", *options, "--max-bad-rows", 3)
    rows = rows_of(tmp_path / "out")
    kept = np.delete(np.arange(ROWS), [2, 3, 11])
    assert rows["id"][:].tolist() == [f"s{number}" for number in kept]
    np.testing.assert_allclose(rows["embedding"][:], expected[kept], atol=1e-5)
    bad = manifest_of(tmp_path / "out")["bad_rows"]
    assert (bad["count"], [row["id"] for row in bad["first"]]) == (3, ["s2", "s3", "s11"])


@pytest.mark.parametrize("count", [0, 1])
def test_no_row_and_one(count, repo, scenes, model, tmp_path):
    path = write_parquet(scenes.select(range(count)), tmp_path / "few.parquet")
    run_embed(repo, path, tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "data").num_rows == manifest_of(tmp_path / "out")["rows"] == count
    index = EmbeddingIndex.from_folder(tmp_path / "out", model)
    assert [hit.index for hit in index.search("a chair")] == list(range(count))


def test_an_index_maps_the_vectors_and_the_rows(embedded, scenes, model, tmp_path):
    folder = shutil.copytree(embedded, tmp_path / "out")
    for _ in range(2):  # the second time the file of vectors is there
        index = EmbeddingIndex.from_folder(folder, model)
        hits = index.search(scenes[5]["depth"], k=2)
        assert (hits[0].index, hits[0].row["caption"]) == (5, scenes[5]["caption"])
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        assert "embedding" not in hits[0].row
    assert isinstance(index._vectors._codes.array(), np.memmap) and index.nbytes == 0
    assert index.rows.cache_files  # mapped, too
    index.save(tmp_path / "index")
    loaded = EmbeddingIndex.load(tmp_path / "index", model)
    assert [hit.row for hit in loaded.search(scenes[5]["depth"], k=2)] == [hit.row for hit in hits]
    approximate = EmbeddingIndex.from_folder(folder, model, index_type="hnsw")
    assert approximate.search(scenes[5]["depth"], k=1)[0].index == 5


@pytest.mark.parametrize(("precision", "bytes_a_row"), [("float16", 16), ("int8", 8), ("binary", 9)])
def test_an_index_holds_less(precision, bytes_a_row, embedded, scenes, model, tmp_path):
    folder = shutil.copytree(embedded, tmp_path / "out")
    index = EmbeddingIndex.from_folder(folder, model, precision=precision, rescore_multiplier=ROWS)
    assert (index.precision, index.nbytes) == (precision, bytes_a_row * ROWS)
    (hit,) = index.search(scenes[5]["depth"], k=1)
    assert (hit.index, hit.row["caption"]) == (5, scenes[5]["caption"])
    assert hit.score == pytest.approx(1, abs=1e-5 if precision == "binary" else 1e-2)  # of the rows on disk
    index.save(tmp_path / "index")
    assert EmbeddingIndex.load(tmp_path / "index", model).search(scenes[5]["depth"], k=1)[0].index == 5
    cells = EmbeddingIndex.from_folder(folder, model, "ivf", precision=precision, rescore_multiplier=ROWS)
    assert cells.search(scenes[5]["depth"], k=1)[0].index == 5


def test_an_index_refuses_another_model_and_damage(embedded, scenes, tmp_path):
    other = tiny_model()
    other.text_projection.weight.data += 1
    with pytest.raises(ValueError, match="the model given has other weights"):
        EmbeddingIndex.from_folder(embedded, other)
    folder = shutil.copytree(embedded, tmp_path / "out")
    for file in folder.glob("vectors-*"):
        file.unlink()
    shard = folder / manifest_of(folder)["shards"][1]["file"]
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="0000001-00000.parquet: missing or damaged; run the same hf-encoders embed"):
        EmbeddingIndex.from_folder(folder)
    assert not list(folder.glob("*vectors-*"))
    manifest = manifest_of(folder)
    manifest["shards"][0]["file"] = "data/../../elsewhere.parquet"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="manifest.json: damaged"):
        EmbeddingIndex.from_folder(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="no finished embeddings there"):
        EmbeddingIndex.from_folder(folder)


@pytest.mark.parametrize(
    ("dataset", "options", "says"),
    [
        ("missing.parquet", (), "missing.parquet: no such file"),
        ("nothing/*.tar", (), "no such file"),
        ("scenes.parquet", ("--split", "test"), "files have no --split"),
        ("scenes.parquet", ("--column", "picture"), "no column 'picture'; it has image (pictures), depth (pictures)"),
        ("scenes.parquet", ("--id-column", "key"), "no column 'key'; it has image, depth"),
        ("scenes.parquet", ("--columns", "noun", "key"), "no column 'key'; it has image, depth"),
        ("scenes.parquet", ("--shard-rows", 0), "a shard has at least 1 row, got 0"),
        ("scenes.parquet", ("--truncate-dim", 9), "truncate_dim must be from 1 to 8, got 9"),
        ("broken.parquet", (), "broken.parquet: not a readable parquet file"),
        ("empty", (), "no depth map in this folder"),
        ("mixed", (), "has both parquet files and tar shards"),
    ],
)
def test_bad_input_ends_in_one_line(dataset, options, says, repo, parquet, tmp_path, capsys):
    (tmp_path / "scenes.parquet").symlink_to(parquet)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.tar").touch()
    (tmp_path / "mixed" / "b.parquet").touch()
    with pytest.raises(SystemExit) as end:
        run_embed(repo, tmp_path / dataset, tmp_path / "out", *options)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2
    assert says in error
    assert not (tmp_path / "out").exists()


def test_a_bad_row_is_named_by_its_path_or_by_nothing(repo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {"words": ["a chair", None, "a table"], "picture": ["image 0", "image 5", "image 7"]}
    path = write_parquet(Dataset.from_dict(contents), tmp_path / "rows.parquet")
    reasons = {"text": "a NoneType, expected a string", "image": "image 0: no such file"}
    for modality, column in (("text", "words"), ("image", "picture")):
        options = ("--modality", modality, "--column", column, "--max-bad-rows", 3)
        run_embed(repo, path, tmp_path / modality, *options)
        bad = manifest_of(tmp_path / modality)["bad_rows"]["first"]
        assert bad[0]["reason"] == reasons[modality]
