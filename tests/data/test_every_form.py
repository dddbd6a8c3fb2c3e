"""Search, embedding, evaluation and training take the same names of data sets, and find the same rows."""

import io
import shutil
import tarfile

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, config

from hf_encoders.data.collection import open_collection
from hf_encoders.data.location import locate
from hf_encoders.data.source import open_source
from hf_encoders.data.splits import data_revision, load_joined, load_splits

GREYS = [0, 50, 100, 150, 200]
FORMS = {
    "a folder of pictures": "pictures",
    "a picture": "pictures/0.png",
    "a pattern of pictures": "pictures/*.png",
    "a folder of parquet files": "parquet",
    "a parquet file": "parquet/train-0.parquet",
    "a pattern of parquet files": "parquet/*.parquet",
    "a folder of shards": "shards",
    "a shard": "shards/0.tar",
    "a pattern of shards": "shards/?.tar",
}


def png(grey):
    content = io.BytesIO()
    PIL.Image.new("RGB", (6, 6), (grey, grey, grey)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Five grey pictures in every form, three in the first file and two in the second."""
    folder = tmp_path_factory.mktemp("forms")
    for name in ("pictures", "parquet", "shards"):
        (folder / name).mkdir()
    for number, grey in enumerate(GREYS):
        (folder / "pictures" / f"{number}.png").write_bytes(png(grey))
    for number, greys in enumerate((GREYS[:3], GREYS[3:])):
        rows = [{"image": {"bytes": png(grey), "path": None}} for grey in greys]
        Dataset.from_list(rows, Features({"image": Image()})).to_parquet(folder / f"parquet/train-{number}.parquet")
        with tarfile.open(folder / f"shards/{number}.tar", "w") as tar:
            for grey in greys:
                entry = tarfile.TarInfo(f"{grey}.png")
                entry.size = len(png(grey))
                tar.addfile(entry, io.BytesIO(png(grey)))
    return folder


@pytest.fixture
def here(written, monkeypatch):
    monkeypatch.chdir(written)


def greys(pictures):
    return [int(np.asarray(_opened(picture))[0, 0, 0]) for picture in pictures]


def _opened(picture):
    if isinstance(picture, dict):
        return PIL.Image.open(io.BytesIO(picture["bytes"]) if picture["bytes"] else picture["path"])
    return PIL.Image.open(picture) if isinstance(picture, str) else picture


def searched(name):
    source = open_source(name, "image")
    return greys(source.dataset[source.column])


def embedded(name):
    collection = open_collection(name, "image")
    tables = [table for part in collection.parts(2) for table in collection.tables(part, 0, [collection.column])]
    return greys(pa.concat_tables(tables)[collection.column].to_pylist())


def column_of(rows):
    return next(name for name, feature in rows.features.items() if isinstance(feature, Image))


def measured(name):
    (rows,) = load_splits(name, "train").values()
    return greys(rows[column_of(rows)])


def trained_on(name, streaming):
    column = "png" if "shard" in name else "image"
    rows = load_joined([name], "train", [column], streaming=streaming)
    return greys(row[column] for row in rows)


@pytest.mark.parametrize("name", FORMS.values(), ids=FORMS)
def test_every_reader_finds_the_rows(name, here):
    expected = GREYS[:3] if name.endswith(("0.parquet", "0.tar")) else GREYS[:1] if "0.png" in name else GREYS
    assert searched(name) == embedded(name) == measured(name) == expected
    assert trained_on(name, False) == trained_on(name, True) == expected


def test_every_reader_finds_the_rows_of_the_hub(hub, hub_client, written, monkeypatch):
    monkeypatch.setattr(config, "HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    hub_client.create_repo("org/greys", repo_type="dataset", exist_ok=True)
    for number in range(2):
        hub_client.upload_file(
            path_or_fileobj=written / f"parquet/train-{number}.parquet",
            path_in_repo=f"data/train-{number}.parquet",
            repo_id="org/greys",
            repo_type="dataset",
        )
    assert searched("org/greys") == embedded("org/greys") == measured("org/greys") == GREYS
    assert trained_on("org/greys", True) == GREYS


def test_a_folder_of_parquet_files_has_splits(written, tmp_path):
    folder = shutil.copytree(written / "parquet", tmp_path / "parquet")
    (folder / "train-1.parquet").rename(folder / "test.parquet")
    source = open_source(str(folder), "image", split="test")
    assert greys(source.dataset["image"]) == GREYS[3:]
    assert open_collection(str(folder), "image", split="train").parts(10)[0].count == 3
    assert {split: len(rows) for split, rows in load_splits(str(folder), "x").items()} == {"train": 3, "test": 2}
    for open_it in (open_source, open_collection):
        with pytest.raises(ValueError, match="parquet: no split 'validation'; it has train, test"):
            open_it(str(folder), "image", split="validation")


@pytest.mark.parametrize("open_it", [open_source, open_collection, load_splits])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("parquet/none.parquet", "none.parquet: no such file"),
        ("none.png", "none.png: no such file"),
        ("none/*.tar", r"none/\*.tar: no such file"),
        ("parquet/none", "parquet/none: no such file or folder"),
        ("/none/of/these", "/none/of/these: no such file or folder"),
        ("mixed", "mixed: has both parquet files and tar shards; say which: mixed/"),
    ],
)
def test_every_reader_says_what_is_missing(open_it, name, says, here, written):
    mixed = written / "mixed"
    mixed.mkdir(exist_ok=True)
    (mixed / "a.tar").touch()
    (mixed / "b.parquet").touch()
    with pytest.raises(ValueError, match=says):
        open_it(name, "image")


def test_depth_maps_that_datasets_does_not_know_have_paths_and_the_names_of_their_folders(tmp_path):
    for kind in ("chair", "lamp"):
        (tmp_path / kind).mkdir()
        np.save(tmp_path / kind / "0.npy", np.ones((4, 4), np.float32))
    rows = load_splits(str(tmp_path), "test")["test"]
    assert rows["depth"][:] == [str(tmp_path / kind / "0.npy") for kind in ("chair", "lamp")]
    assert rows.features["label"] == ClassLabel(names=["chair", "lamp"]) and rows["label"][:] == [0, 1]
    assert list(load_splits(str(tmp_path), "test", streaming=True)["test"]) == list(rows)
    before = data_revision(str(tmp_path), "test")
    np.save(tmp_path / "lamp/0.npy", np.zeros((4, 4), np.float32))
    assert data_revision(str(tmp_path), "test").keys() == {"dataset_sha256"} and before != data_revision(
        str(tmp_path), "test"
    )


def test_a_url_of_shards_is_left_to_datasets():
    location = locate("https://example.org/shards/0.tar")
    assert (location.kind, location.is_remote) == ("webdataset", True)
    assert location.loader == {"path": "webdataset", "data_files": ["https://example.org/shards/0.tar"]}
