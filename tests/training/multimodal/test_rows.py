"""Rows to train on from every kind of data set; recipes and configurations."""

import io
import tarfile

import pytest
from datasets import Dataset

from hf_encoders.training.multimodal.arguments import DataArguments
from hf_encoders.training.multimodal.rows import load_rows
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
    made = SampleMaker(options, ModelInputs(tiny_processor(), 16), 0)(rows[4], 4, 0)
    assert made["image"].size == PICTURE.shape[1::-1] and made["caption"] == "text 1 1"


def test_errors_of_sources(folder):
    with pytest.raises(ValueError, match=r"no split 'test'"):
        load_rows(DataArguments(dataset=[str(folder)]), "test")
    with pytest.raises(ValueError, match=r"no column 'depth'; it has image \(pictures\), caption \(text\)"):
        load_rows(DataArguments(dataset=[str(folder)], depth_column="depth"), "train")
