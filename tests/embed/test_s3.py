"""Data sets and results in buckets: what `hf-encoders embed` reads from URLs and writes to them."""

import sys

import pytest
from datasets import Dataset
from fsspec.implementations.memory import MemoryFileSystem

from hf_encoders import command_line
from hf_encoders.commands import main as cli
from hf_encoders.data.remote_path import RemotePath
from hf_encoders.search.index import EmbeddingIndex
from hf_encoders.search.opening import holds_embeddings
from tests.conftest import SAMPLES
from tests.helpers.embedding_files import manifest_of, run_embed, write_folder, write_parquet, write_tars
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.s3 import s3_server

SHARDS = ("--shard-rows", 4, "--batch-size", 4)


@pytest.fixture(scope="module")
def bucket():
    with s3_server("bucket") as store:
        yield store


@pytest.fixture(scope="module")
def folder(tmp_path_factory, bucket):
    """A model; nine scenes as parquet, files and tar shards, here and in the bucket."""

    folder = tmp_path_factory.mktemp("s3")
    scenes = Dataset.from_parquet(str(SAMPLES / "objects" / "test.parquet")).select(range(9))
    tiny_model().save_pretrained(folder / "model")
    write_parquet(scenes, folder / "scenes.parquet")
    write_folder(scenes, folder / "maps")
    (folder / "tars").mkdir()
    write_tars(scenes, folder / "tars", [5, 4])
    bucket.put_file(str(folder / "scenes.parquet"), "bucket/data/scenes.parquet")
    bucket.put(str(folder / "maps"), "bucket/", recursive=True)
    bucket.put(str(folder / "tars"), "bucket/", recursive=True)
    bucket.pipe_file("bucket/maps/.hidden.png", b"no map")
    return folder


@pytest.fixture(scope="module")
def local(folder):
    """The files, embedded on this machine."""
    run_embed(folder / "model", folder / "maps", folder / "local", *SHARDS)
    return folder / "local"


def fetched(bucket, url, to):
    bucket.get(url, str(to), recursive=True)
    return to


def assert_same(output, expected):
    assert manifest_of(output)["shards"] == manifest_of(expected)["shards"]
    for file in (expected / "data").iterdir():
        assert (output / "data" / file.name).read_bytes() == file.read_bytes()


def test_files_of_a_bucket_become_shards_in_a_bucket(folder, local, bucket, tmp_path):
    run_embed(folder / "model", "s3://bucket/maps", "s3://bucket/out/files", *SHARDS)
    output = fetched(bucket, "bucket/out/files/", tmp_path / "out")
    assert_same(output, local)
    assert manifest_of(output)["dataset"]["digest"] == manifest_of(local)["dataset"]["digest"]
    names = {file.rpartition("/")[2] for file in bucket.find("bucket/out/files")}
    assert not [name for name in names if name.startswith(".")]


@pytest.mark.parametrize(
    "source", ["s3://bucket/data/scenes.parquet", "s3://bucket/data", "s3://bucket/data/*.parquet"]
)
def test_parquet_files_of_a_bucket_are_read(source, folder, tmp_path):
    run_embed(folder / "model", source, tmp_path / "out", *SHARDS)
    assert manifest_of(tmp_path / "out")["rows"] == 9


def test_a_run_goes_on_in_a_bucket(folder, local, bucket, tmp_path, caplog):
    output = "s3://bucket/out/again"
    run_embed(folder / "model", folder / "maps", output, *SHARDS)
    before = {name: bucket.info(name)["LastModified"] for name in bucket.find("bucket/out/again/data")}
    bucket.rm_file("bucket/out/again/records/0000001-00000.json")
    bucket.pipe_file("bucket/out/again/data/0000002-00000.parquet", b"something else")
    bucket.rm_file("bucket/out/again/manifest.json")
    run_embed(folder / "model", folder / "maps", output, *SHARDS)
    assert "s3://bucket/out/again/data/0000002-00000.parquet: not the file that was written" in caplog.text
    assert_same(fetched(bucket, "bucket/out/again/", tmp_path / "out"), local)
    first = "bucket/out/again/data/0000000-00000.parquet"
    assert bucket.info(first)["LastModified"] == before[first]


def test_a_bucket_s_folder_that_was_copied_goes_on_here(folder, local, bucket, tmp_path):
    run_embed(folder / "model", folder / "maps", "s3://bucket/out/moved", *SHARDS)
    output = fetched(bucket, "bucket/out/moved/", tmp_path / "out")
    (output / "manifest.json").unlink()
    (output / "records" / "0000002-00000.json").unlink()
    run_embed(folder / "model", folder / "maps", output, *SHARDS)
    assert_same(output, local)


def test_a_file_that_changed_in_the_bucket_is_embedded_again(folder, bucket, tmp_path, capsys):
    bucket.put(str(folder / "maps"), "bucket/changing/", recursive=True)
    source = "s3://bucket/changing/maps"
    run_embed(folder / "model", source, tmp_path / "out", *SHARDS)
    before = manifest_of(tmp_path / "out")["shards"]
    other = (folder / "maps" / "a" / "001.png").read_bytes() + b" "
    bucket.pipe_file("bucket/changing/maps/a/000.png", other)
    run_embed(folder / "model", source, tmp_path / "out", *SHARDS)
    after = manifest_of(tmp_path / "out")["shards"]
    assert before[0] != after[0] and before[1:] == after[1:]
    assert "embedded again: 4" in capsys.readouterr().out


def test_a_file_of_the_bucket_that_is_no_map_is_named(folder, bucket, tmp_path, capsys):
    bucket.pipe_file("bucket/broken/a.png", b"no map")
    with pytest.raises(SystemExit):
        run_embed(folder / "model", "s3://bucket/broken", tmp_path / "out", *SHARDS)
    assert "1 row cannot be embedded; the first: a.png:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "output", "says"),
    [
        ("s3://bucket/none", "out", "s3://bucket/none: no file there"),
        ("s3://bucket/tars", "out", "s3://bucket/tars: .tar shards are not streamed from S3"),
        ("s3://no-bucket/maps", "out", "s3://no-bucket/maps: no"),
        ("maps", "s3://no-bucket/out", "s3://no-bucket/out/plan.json: "),
        ("maps", "nostore://bucket/out", "nostore://bucket/out/items.feather: no kind of URL that is known"),
        ("maps", "s3://bucket/maps", "s3://bucket/maps: exists already, with something else"),
    ],
)
def test_what_is_not_there_takes_one_line(source, output, says, folder, tmp_path, capsys):
    source = source if "://" in source else folder / source
    output = output if "://" in output else tmp_path / output
    with pytest.raises(SystemExit) as end:
        run_embed(folder / "model", source, output, *SHARDS)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and says in error


def test_what_reaches_a_store_is_named_where_it_lacks(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SystemExit):
        run_embed(folder / "model", folder / "maps", "gs://bucket/out", *SHARDS)
    error = capsys.readouterr().err
    assert "gs://bucket/out/items.feather: needs a package that is not installed (pip install gcsfs)" in error


def test_a_store_that_cannot_be_reached_takes_one_line(folder, tmp_path, capsys, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SystemExit):
        run_embed(folder / "model", "s3://bucket/maps", tmp_path / "out", *SHARDS)
    s3fs.S3FileSystem.clear_instance_cache()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "s3://bucket/maps: cannot be listed" in error


def test_an_index_says_to_copy_the_folder():
    with pytest.raises(ValueError, match="s3://bucket/out: .* copy the folder"):
        EmbeddingIndex.from_folder("s3://bucket/out", tiny_model())


def test_a_url_of_this_machine_is_a_path(folder, tmp_path, local):
    run_embed(folder / "model", folder / "maps", (tmp_path / "out").as_uri(), *SHARDS)
    assert_same(tmp_path / "out", local)


def test_a_search_in_a_bucket_says_to_copy_the_folder(folder, bucket, local):
    bucket.put(str(local), "bucket/embedded", recursive=True)
    with pytest.raises(ValueError, match="s3://bucket/embedded: .* copy the folder"):
        holds_embeddings("s3://bucket/embedded")
    assert not holds_embeddings("s3://bucket/data")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["encode", "maps", "--output", "s3://bucket/a.npz"], "s3://bucket/a.npz: a URL, and a file or folder of this"),
        (["encode", "s3://bucket/maps", "--output", "a.npz"], "s3://bucket/maps: no such file or folder"),
        (["search", "s3://bucket/maps", "a chair", "--modality", "depth"], "pictures at a URL are read by"),
    ],
)
def test_other_commands_say_that_they_take_no_url(words, says, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    name, *rest = words
    with pytest.raises(SystemExit) as end:
        command_line.run(lambda: cli.command([name, "model", *rest]))
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and says in error


def test_a_store_without_whole_puts_shows_no_half_of_a_file(monkeypatch):
    """Such as SFTP: the file gets its name at the end. The store in memory stands for it."""
    monkeypatch.setattr("hf_encoders.data.remote_path._WHOLE", frozenset())
    path = RemotePath("memory://folder/a.json")
    seen = []

    def rename(store, hidden, name):
        seen.append((hidden, name, path.exists()))
        store.cp_file(hidden, name)

    monkeypatch.setattr(MemoryFileSystem, "mv", rename)
    with path.writing() as partial:
        partial.write_text("{}")
    assert path.read_text() == "{}"
    ((hidden, name, was_there),) = seen
    assert not was_there and hidden.startswith("/folder/.a.json.partial-") and name == "/folder/a.json"
