"""Rows to train on from every kind of data set; recipes and configurations."""

import csv
import io
import json
import tarfile
from dataclasses import replace

import pytest
from datasets import Dataset, Features, List, Value

from hf_encoders.models.text_reading import TextReading
from hf_encoders.training.multimodal.arguments import DataArguments
from hf_encoders.training.multimodal.rows import load_rows, taken_lines, with_columns
from hf_encoders.training.multimodal.samples import ModelInputs, SampleMaker
from tests.conftest import SAMPLES
from tests.helpers.multimodal_models import tiny_processor
from tests.helpers.training_files import PICTURE, image_folder, png


def rows_of(options, split="train"):
    return [row["caption"] for row in load_rows(options, split)]


@pytest.fixture
def folder(tmp_path):
    return image_folder(tmp_path)


@pytest.mark.parametrize("streaming", [False, True])
def test_image_folder(folder, streaming):
    options = DataArguments(dataset=[str(folder)], streaming=streaming)
    assert rows_of(options) == ["train 0", "train 1", "train 2"]
    assert rows_of(options, "validation") == ["validation 0", "validation 1"]


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_files_and_folders_join(streaming):
    options = DataArguments(
        dataset=[str(SAMPLES / "rooms"), str(SAMPLES / "rooms/validation.parquet")], streaming=streaming
    )
    captions = rows_of(options)
    assert len(captions) == 700 and captions[600:] == list(
        Dataset.from_parquet(str(SAMPLES / "rooms/validation.parquet"))["caption"]
    )


@pytest.mark.parametrize("streaming", [False, True])
def test_webdataset_shards(tmp_path, streaming):
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for index in range(3):
                for suffix, content in (("png", png(PICTURE)), ("txt", f"text {shard} {index}".encode())):
                    info = tarfile.TarInfo(f"{index}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    options = DataArguments(
        dataset=[str(tmp_path / f"{shard}.tar") for shard in range(2)],
        text_column="txt",
        image_column="png",
        streaming=streaming,
    )
    rows = list(load_rows(options, "train"))
    assert [row["txt"] for row in rows] == [f"text {shard} {index}" for shard in range(2) for index in range(3)]
    made = SampleMaker(options, ModelInputs(tiny_processor(), TextReading(16)), 0)(rows[4], 4, 0)
    assert made["image"].size == PICTURE.shape[1::-1] and made["caption"] == "text 1 1"


def test_errors_of_sources(folder):
    with pytest.raises(ValueError, match=r"no split 'test'"):
        load_rows(DataArguments(dataset=[str(folder)]), "test")
    with pytest.raises(ValueError, match=r"no column 'depth'; it has image \(pictures\), caption \(text\)"):
        load_rows(DataArguments(dataset=[str(folder)], depth_column="depth"), "train")


@pytest.fixture
def own(tmp_path):
    """Writes rows of two pictures and captions as people have them, with columns called otherwise; gives the name."""
    (tmp_path / "pics").mkdir()
    files = [f"pics/{number}.png" for number in range(2)]
    for file in files:
        (tmp_path / file).write_bytes(png(PICTURE))
    texts = ["a red chair", "a lamp"]

    def write(kind):
        path = tmp_path / f"rows.{kind}"
        if kind == "jsonl":
            lines = [{"path": file, "words": text, "n": 1} for file, text in zip(files, texts, strict=True)]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        elif kind == "csv":
            with open(path, "w", newline="") as file:
                csv.writer(file).writerows([("path", "words"), *zip(files, texts, strict=True)])
        elif kind == "parquet":
            features = Features({"path": Value("binary"), "words": List(Value("string"))})
            columns = {"path": [png(PICTURE)] * 2, "words": [[text] for text in texts]}
            Dataset.from_dict(columns, features).to_parquet(path)
        else:
            rows = zip(["0.png", "1.png"], texts, strict=True)
            with open(tmp_path / "pics" / "metadata.csv", "w", newline="") as file:
                csv.writer(file).writerows([("file_name", "words"), *rows])
            path = tmp_path / "pics"
        return str(path)

    return write


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "folder"])
def test_the_only_columns_of_captions_and_of_images_are_taken(kind, streaming, own):
    asked = DataArguments(dataset=[own(kind)], streaming=streaming)
    found = with_columns(asked)
    image = "image" if kind == "folder" else "path"
    assert (found.text_column, found.image_column) == ("words", image)
    assert found == replace(asked, text_column="words", image_column=image)
    lines = taken_lines(asked, found)
    assert lines[0] == (
        "no column 'caption': 'words' is the only one of its kind, and is taken; --text_column names another"
    )
    assert [line[:18] for line in lines[1:]] == ([] if kind == "folder" else ["no column 'image':"])
    row = list(load_rows(found, "train"))[1]
    made = SampleMaker(found, ModelInputs(tiny_processor(), TextReading(16)), 0)(row, 1, 0)
    assert made["caption"] == "a lamp" and made["image"].size == PICTURE.shape[1::-1]


def test_columns_called_as_usual_are_taken_and_nothing_is_said(folder):
    options = DataArguments(dataset=[str(folder)])
    assert with_columns(options) == options and taken_lines(options, options) == []
    without = DataArguments(dataset=[str(folder)], image_column="")
    assert with_columns(without) == without


def test_columns_that_are_used_otherwise_are_not_taken(tmp_path):
    columns = {"title": ["a"], "key": ["b"], "photo": [png(PICTURE)], "map": [png(PICTURE)]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "rows.parquet")
    options = DataArguments(dataset=[str(tmp_path / "rows.parquet")], id_column="key", depth_column="map")
    found = with_columns(options)
    assert (found.text_column, found.image_column) == ("title", "photo")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "which column holds the texts? Say --text_column; it has "),
        ({"text_column": "title"}, "which column holds the images? Say --image_column, or --image_column '' to train"),
        ({"text_column": "words"}, "no column 'words'; it has "),
        ({"text_column": "title", "image_column": "picture"}, "no column 'picture'; it has "),
        ({"depth_column": "depth"}, "no column 'depth'; it has "),
        ({"id_column": "id"}, "no column 'id'; it has "),
        ({"boxes_column": "objects.box"}, "no column 'objects'; it has "),
    ],
)
def test_what_cannot_be_found_is_said_with_the_option_and_the_columns(changes, says, tmp_path):
    columns = {"title": ["a"], "key": ["b"], "photo": [png(PICTURE)], "other": [png(PICTURE)], "n": [1]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError) as caught:
        with_columns(DataArguments(dataset=[str(tmp_path / "rows.parquet")], **changes))
    message = str(caught.value)
    assert says in message
    assert "it has title (text), key (text), photo (pictures), other (pictures), n (numbers)" in message
    assert all(f"--{name}" in message for name in list(changes)[-1:] if "which" not in says)
