"""A collection is found wherever it is, and what is missing is said."""

import io

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value

from hf_encoders.data import source
from hf_encoders.data.source import open_source


def png(colour):
    content = io.BytesIO()
    PIL.Image.new("RGB", (6, 6), colour).save(content, format="PNG")
    return {"bytes": content.getvalue(), "path": None}


@pytest.fixture
def dataset():
    return Dataset.from_list(
        [{"image": png("red"), "other": png("blue"), "caption": " a red\nlamp", "noun": "lamp"}],
        features=Features({"image": Image(), "other": Image(), "caption": Value("string"), "noun": Value("string")}),
    )


@pytest.fixture
def parquet(dataset, tmp_path):
    dataset.to_parquet(tmp_path / "rooms.parquet")
    return str(tmp_path / "rooms.parquet")


def test_a_folder_lists_its_files_in_order(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.JPG", "a.png", "deep/c.webp", "notes.txt", "map.npy"):
        (tmp_path / name).touch()
    source = open_source(str(tmp_path), "image")
    assert [row["file"] for row in source.dataset] == [
        str(tmp_path / name) for name in ("a.png", "b.JPG", "deep/c.webp")
    ]
    assert source.label(0, source.dataset[0]) == str(tmp_path / "a.png")
    assert source.caption(0, source.dataset[0]) == "a.png"
    maps = open_source(str(tmp_path), "depth")
    assert [row["file"] for row in maps.dataset] == [str(tmp_path / name) for name in ("a.png", "map.npy")]
    assert len(open_source(str(tmp_path / "a.png"), "image").dataset) == 1


def test_a_name_that_is_no_text_is_said_in_text(tmp_path):
    (tmp_path / "b\udcff.png").touch()
    with pytest.raises(ValueError, match=r"b\\udcff.png: its name is no UTF-8"):
        open_source(str(tmp_path), "image")


def test_a_parquet_file_gives_its_column_and_decodes_no_other(parquet):
    source = open_source(parquet, "image")
    row = source.dataset[0]
    assert row["image"].size == (6, 6)
    assert set(row["other"]) == {"bytes", "path"}
    assert source.rows.column_names == ["caption", "noun"]
    assert source.label(4, row) == "row 4  a red lamp"
    assert source.caption(4, row) == "a red lamp"
    assert open_source(parquet, "text", "noun").caption(4, row) == "lamp"


@pytest.mark.parametrize("as_struct", [True, False])
def test_pictures_that_are_not_said_to_be_such_are_decoded(as_struct, tmp_path):
    content = png("blue")
    pq.write_table(pa.table({"photo": [content if as_struct else content["bytes"]]}), tmp_path / "plain.parquet")
    source = open_source(str(tmp_path / "plain.parquet"), "image")
    assert source.column == "photo"
    assert np.asarray(source.dataset["photo"][0])[0, 0].tolist() == [0, 0, 255]


def test_a_data_set_of_one_split_needs_no_split(dataset, monkeypatch):
    monkeypatch.setattr("hf_encoders.data.location.check_on_hub", lambda name, kind: None)
    held = {"org/one": DatasetDict(train=dataset), "org/two": DatasetDict(train=dataset, test=dataset)}
    monkeypatch.setattr(source, "load_dataset", lambda name, split: held[name] if split is None else held[name][split])
    assert len(open_source("org/one", "image").dataset) == 1
    assert len(open_source("org/two", "image", split="test").dataset) == 1
    with pytest.raises(ValueError, match="org/two: has the splits train, test; choose one with --split"):
        open_source("org/two", "image")
    with pytest.raises(ValueError, match="org/none: no such file or folder here, and no data set that loads"):
        open_source("org/none", "image")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("{here}", "image"), "no image in this folder"),
        (("{here}", "text"), "texts are read from"),
        (("{here}", "image", "image"), "has no --column or --split"),
        (("{here}/nothing", "image"), "nothing: no such file or folder"),
        (("nothing", "image"), "nothing: no such file or folder"),
        (("{here}/no.parquet", "image"), "no.parquet: no such file"),
        (("{bad}", "image"), "bad.parquet: not a readable parquet file"),
        (
            ("{parquet}", "image", "picture"),
            r"no column 'picture'; it has image \(pictures\), other \(pictures\), caption \(text\)",
        ),
        (("{parquet}", "depth"), "which column holds the depth maps"),
        (("{parquet}", "text"), "which column holds the texts"),
        (("{parquet}", "image", None, "test"), "files have no --split"),
    ],
)
def test_what_is_not_there_is_said(arguments, says, parquet, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "bad.parquet").write_text("no parquet")
    places = {"here": here, "parquet": parquet, "bad": tmp_path / "bad.parquet"}
    with pytest.raises(ValueError, match=says):
        open_source(*(argument and argument.format(**places) for argument in arguments))
