"""The data side of training: every kind of source, captions, boxes, crops, bad rows, and that all of it repeats."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from accelerate.commands.config import load_config_from_file
from datasets import Dataset
from PIL import Image

import pretrain
from arguments import DataArguments
from conftest import ROOT, SAMPLES
from data import BadSample, Collate, SampleMaker, Samples, StreamedSamples, load_rows
from hf_encoders.losses import stable_ids
from multimodal_models import SIZE, tiny_processor

PICTURE = np.random.RandomState(0).randint(0, 256, (40, 60, 3), dtype=np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def sample(row, index=0, epoch=0, seed=0, **options):
    options = DataArguments(**{"depth_column": "", "image_column": "image"} | options)
    return SampleMaker(options, tiny_processor(), 16, seed)(row, index, epoch)


def rows_of(options, split="train"):
    return [row["caption"] for row in load_rows(options, split)]


@pytest.fixture
def folder(tmp_path):
    """An image folder with metadata."""
    for split, count in (("train", 3), ("validation", 2)):
        (tmp_path / split).mkdir()
        lines = []
        for index in range(count):
            Image.fromarray(PICTURE).save(tmp_path / split / f"{index}.png")
            lines.append(json.dumps({"file_name": f"{index}.png", "caption": f"{split} {index}"}))
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(lines))
    return tmp_path


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
    made = SampleMaker(options, tiny_processor(), 16, 0)(rows[4], 4, 0)
    assert made["pixel_values"].shape == (3, SIZE, SIZE) and made["caption"] == "text 1 1"


def test_errors_of_sources(folder):
    with pytest.raises(ValueError, match=r"no split 'test'"):
        load_rows(DataArguments(dataset=[str(folder)]), "test")
    with pytest.raises(ValueError, match="no column 'depth'; it has image, caption"):
        load_rows(DataArguments(dataset=[str(folder)], depth_column="depth"), "train")


def test_each_epoch_takes_one_of_several_captions():
    row = {"caption": ["a", "b", "c"], "image": {"bytes": png(PICTURE)}}
    taken = [sample(row, epoch=epoch)["caption"] for epoch in range(30)]
    assert set(taken) == {"a", "b", "c"}
    assert taken == [sample(row, epoch=epoch)["caption"] for epoch in range(30)]
    assert taken != [sample(row, epoch=epoch, seed=1)["caption"] for epoch in range(30)]


def test_image_and_depth_are_cut_alike():
    ramp = np.tile(np.linspace(1, 200, 64), (64, 1))
    row = {
        "caption": "a",
        "image": {"bytes": png(np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8))},
        "depth": {"bytes": png(ramp.astype(np.uint16))},
    }
    options = {"depth_column": "depth", "image_scale": 0.3}
    maker = SampleMaker(DataArguments(**options), tiny_processor(), 16, 0)
    maker.processor.depth_image_processor = type(maker.processor.depth_image_processor)(
        size=SIZE, normalization="range", value_range=[0, 255], invalid_values=[]
    )
    for epoch in range(5):
        made = maker(row, 0, epoch)
        # Both are 2 x / 255 - 1 of the same numbers.
        assert (made["pixel_values"][0] - made["depth_values"][0]).abs().max() < 0.03
        assert made["pixel_values"][0].max() - made["pixel_values"][0].min() < 1.5  # a part of the ramp
    whole = SampleMaker(DataArguments(depth_column="depth"), tiny_processor(), 16, 0)(row, 0, 0)
    assert whole["depth_values"].min() == -1 and whole["depth_values"].max() == 1


def test_masked_copies_have_their_boxes_painted():
    row = {"caption": "a", "image": {"bytes": png(PICTURE)}, "objects": [{"box": [0, 0, 0.5, 1]}]}
    made = sample(row, boxes_column="objects.box")
    half = SIZE // 2
    assert (made["masked_pixel_values"][:, :, : half - 1] == -1).all()
    assert torch.equal(made["masked_pixel_values"][:, :, half + 1 :], made["pixel_values"][:, :, half + 1 :])
    assert "masked_pixel_values" not in sample(row | {"objects": []}, boxes_column="objects.box")


@pytest.mark.parametrize(
    "row",
    [
        {"caption": "a", "image": {"bytes": png(PICTURE)[:300]}},
        {"caption": "a", "image": {"bytes": b""}},
        {"caption": "a", "image": None},
        {"caption": None, "image": {"bytes": png(PICTURE)}},
        {"caption": [], "image": {"bytes": png(PICTURE)}},
    ],
)
def test_what_cannot_be_read_is_a_bad_sample(row):
    found = sample(row, index=5)
    assert isinstance(found, BadSample) and found.index == 5 and found.reason


def test_a_batch():
    rows = [{"caption": text, "image": {"bytes": png(PICTURE)}} for text in ("a red chair", "a lamp")]
    samples = [sample(row, index) for index, row in enumerate(rows)]
    batch = Collate(tiny_processor().tokenizer, has_masked=True)([samples[0], BadSample(9, "why"), samples[1]])
    assert batch["inputs"]["input_ids"].shape == (2, 5) and batch["inputs"]["pixel_values"].shape == (2, 3, SIZE, SIZE)
    assert batch["rows"] == [0, 1] and batch["bad"] == [BadSample(9, "why")]
    assert torch.equal(batch["ids"]["text"], stable_ids(["a red chair", "a lamp"]))
    assert batch["ids"]["image"].tolist() == stable_ids([0, 1]).tolist()
    assert batch["masked"].shape == (0, 3, SIZE, SIZE)
    empty = Collate(tiny_processor().tokenizer, has_masked=False)([BadSample(9, "why")])
    assert empty["rows"] == [] and empty["inputs"] == {} and empty["bad"]


def test_rows_of_one_id_are_the_same_picture():
    row = {"caption": "a", "image": {"bytes": png(PICTURE)}, "scene": "room 7"}
    samples = [sample(row, index, id_column="scene") for index in range(2)]
    ids = Collate(tiny_processor().tokenizer, has_masked=False)(samples)["ids"]["image"]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 0), (2, 2)])
def test_a_stream_is_divided_without_loss(folder, processes, workers):
    options = DataArguments(dataset=[str(folder)], streaming=True)
    rows, make = load_rows(options, "train"), SampleMaker(options, tiny_processor(), 16, 0)
    found = []
    for process in range(processes):
        stream = StreamedSamples(rows, make, 10, process, processes)
        found += [one["caption"] for one in torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers)]
    assert sorted(found) == ["train 0", "train 1", "train 2"]


def test_samples_change_with_the_epoch():
    row = {"caption": ["a", "b", "c", "d"], "image": {"bytes": png(PICTURE)}}
    samples = Samples([row] * 8, SampleMaker(DataArguments(), tiny_processor(), 16, 0))
    first = [samples[index]["caption"] for index in range(8)]
    samples.set_epoch(1)
    assert first != [samples[index]["caption"] for index in range(8)] and len(samples) == 8


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_read(path):
    if not path.stem.startswith("depth_sample"):  # of the other script
        data, model, loss, run = pretrain.parse([str(path)], pretrain.KINDS, path, "")
        assert run.output_dir.startswith("multimodal-")


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_the_configurations(path):
    assert load_config_from_file(str(path)).num_processes >= 1
