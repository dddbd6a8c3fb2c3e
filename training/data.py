"""From data sets of captions, images and depth maps to batches; what cannot be read is skipped, counted and named."""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from datasets import Image, IterableDataset, concatenate_datasets, load_dataset, load_dataset_builder
from datasets.distributed import split_dataset_by_node
from torch import Tensor

from arguments import DataArguments
from hf_encoders import MultimodalEncoderProcessor
from hf_encoders.fingerprint import sha256
from hf_encoders.losses import stable_ids
from hf_encoders.masked_images import paint_boxes
from hf_encoders.models.image_files import read_image

_FORMATS = {".parquet": "parquet", ".tar": "webdataset"}


@dataclass(frozen=True)
class BadSample:
    """A row that cannot be used: its position and why."""

    index: int
    reason: str


def load_rows(options: DataArguments, split: str) -> Any:
    """The rows of all data sets that have the split, with the columns that are used; pictures undecoded.

    Raises:
        ValueError: if a data set cannot be loaded, lacks a column, or none has the split.
    """
    if not options.dataset:
        raise ValueError("no data: give --dataset (a Hub id, a folder, parquet files or WebDataset shards)")
    parts = [_load(name, split, options) for name in options.dataset]
    parts = [part for part in parts if part is not None]
    if not parts:
        raise ValueError(f"{', '.join(options.dataset)}: no split {split!r}")
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def load_splits(name: str, split_of_files: str, streaming: bool = False) -> dict[str, Any]:
    """Split → rows of one data set.

    Args:
        name: Hub id or folder; or parquet files or WebDataset shards, which are one split.
        split_of_files: what that is called.
        streaming: read while iterating, without a copy on disk.

    Raises:
        ValueError: if it cannot be loaded.
    """
    try:
        loaded = load_dataset(**_reader(name), streaming=streaming)
    except Exception as error:  # the Hub, the network, the files: datasets raises what it likes
        raise ValueError(f"{name}: cannot be loaded ({' '.join(str(error).split())})") from error
    return {split_of_files: loaded["train"]} if _is_files(name) else dict(loaded)


def data_revision(name: str, split: str) -> dict[str, str]:
    """What tells a split from other versions of it: `dataset_revision`, its commit on the Hub, or `dataset_sha256`.

    The latter is of the local file; of several, it is that of their digests.
    """
    builder = load_dataset_builder(**_reader(name))
    files = (builder.config.data_files or {}).get("train" if _is_files(name) else split)
    if not files or any("://" in file for file in files):
        return {"dataset_revision": builder.hash}
    digests = [sha256(Path(file)) for file in files]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {"dataset_sha256": whole}


def _is_files(name: str) -> bool:
    return Path(name).suffix in _FORMATS


def _reader(name: str) -> dict[str, str]:
    """What `datasets` takes for the name."""
    return {"path": _FORMATS[Path(name).suffix], "data_files": name} if _is_files(name) else {"path": name}


class SampleMaker:
    """A row → what the towers take, the same on every run: its randomness follows from seed, epoch and position."""

    def __init__(self, options: DataArguments, processor: MultimodalEncoderProcessor, limit: int | None, seed: int):
        self.options = options
        self.processor = processor
        self.limit = limit
        self.seed = seed

    def __call__(self, row: Mapping[str, Any], index: int, epoch: int) -> dict[str, Any] | BadSample:
        """The sample of a row, or why there is none."""
        rng = np.random.default_rng([self.seed, epoch, index])
        try:
            return self._sample(row, index, rng)
        except (ValueError, TypeError, KeyError, OSError, SyntaxError) as error:  # what decoders raise
            return BadSample(index, " ".join(f"{type(error).__name__}: {error}".split()))

    def _sample(self, row: Mapping[str, Any], index: int, rng: np.random.Generator) -> dict[str, Any]:
        options = self.options
        caption = row[options.text_column]
        if not isinstance(caption, str):
            caption = caption[rng.integers(len(caption))]
        tokens = self.processor.tokenizer(caption, truncation=self.limit is not None, max_length=self.limit)
        shown = row[options.id_column] if options.id_column else index
        sample = {"tokens": dict(tokens), "caption": caption, "id": shown, "index": index}
        crop = _crop(rng, options.image_scale)
        if options.image_column:
            image = read_image(row[options.image_column], f"row {index}")
            if options.boxes_column and (boxes := _boxes(row, options.boxes_column)):
                sample["masked_pixel_values"] = self._pixels(crop(paint_boxes(image, boxes)))
            sample["pixel_values"] = self._pixels(crop(image))
        if options.depth_column:
            depth_map = crop(_decoded(row[options.depth_column]))
            sample["depth_values"] = self.processor.depth_image_processor([depth_map])["pixel_values"][0]
        return sample

    def _pixels(self, image: PIL.Image.Image) -> Tensor:
        return self.processor.image_processor(image, return_tensors="pt")["pixel_values"][0]


class Samples(torch.utils.data.Dataset):
    """The samples of a data set on disk."""

    def __init__(self, rows: Any, make: SampleMaker):
        self.rows, self.make, self.epoch = rows, make, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose captions and crops anew; Accelerate calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any] | BadSample:
        return self.make(self.rows[index], index, self.epoch)


class StreamedSamples(torch.utils.data.IterableDataset):
    """The samples of a streamed data set, divided over processes; `datasets` divides the shards over workers."""

    def __init__(self, rows: IterableDataset, make: SampleMaker, shuffle_buffer: int, rank: int, world_size: int):
        rows = split_dataset_by_node(rows, rank, world_size)
        self.rows = rows.shuffle(seed=make.seed, buffer_size=shuffle_buffer) if shuffle_buffer else rows
        self.make, self.epoch = make, 0
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Shuffle, and choose captions and crops, anew."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any] | BadSample]:
        self.rows.set_epoch(self.epoch)
        worker = torch.utils.data.get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        for count, row in enumerate(self.rows):
            # No two rows of an epoch have the same number.
            yield self.make(row, (count * workers + number) * self.world_size + self.rank, self.epoch)


class Collate:
    """Samples → a batch of tensors, with the bad ones apart."""

    def __init__(self, tokenizer: Any, has_masked: bool):
        self.tokenizer, self.has_masked = tokenizer, has_masked

    def __call__(self, samples: Sequence[dict[str, Any] | BadSample]) -> dict[str, Any]:
        """The batch.

        Returns:
            `inputs`: what the model takes, [B, ...]; `ids`: modality → [B]; `masked`: [K, 3, H, W] masked copies of
            images; `rows`: positions; `bad`: the bad samples.
        """
        good = [sample for sample in samples if not isinstance(sample, BadSample)]
        bad = [sample for sample in samples if isinstance(sample, BadSample)]
        batch: dict[str, Any] = {"inputs": {}, "ids": {}, "masked": None, "rows": [], "bad": bad}
        if not good:
            return batch
        batch["inputs"] = dict(self.tokenizer.pad([sample["tokens"] for sample in good], return_tensors="pt"))
        shown = stable_ids(sample["id"] for sample in good)
        batch["ids"]["text"] = stable_ids(sample["caption"] for sample in good)
        for name, modality in (("pixel_values", "image"), ("depth_values", "depth")):
            if name in good[0]:
                batch["inputs"][name] = torch.stack([sample[name] for sample in good])
                batch["ids"][modality] = shown
        masked = [sample["masked_pixel_values"] for sample in good if "masked_pixel_values" in sample]
        if self.has_masked:  # an empty tensor where no image has boxes: other processes may have some
            batch["masked"] = torch.stack(masked) if masked else batch["inputs"]["pixel_values"][:0]
        batch["rows"] = [sample["index"] for sample in good]
        return batch


def make_loader(
    options: DataArguments, batch_size: int, make: SampleMaker, rank: int, world_size: int
) -> torch.utils.data.DataLoader:
    """Batches of the training rows; those of a stream are divided over processes already."""
    rows = load_rows(options, options.train_split)
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "collate_fn": Collate(make.processor.tokenizer, bool(options.boxes_column)),
        "num_workers": options.num_workers,
        "drop_last": True,
    }
    if options.streaming:
        samples = StreamedSamples(rows, make, options.shuffle_buffer, rank, world_size)
        return torch.utils.data.DataLoader(samples, **settings)
    return torch.utils.data.DataLoader(Samples(rows, make), shuffle=True, **settings)


def _load(name: str, split: str, options: DataArguments) -> Any:
    # Files that are named are the training data.
    rows = load_splits(name, options.train_split, options.streaming).get(split)
    return None if rows is None else _with_columns(name, rows, options)


def _with_columns(name: str, rows: Any, options: DataArguments) -> Any:
    wanted = [options.text_column, options.image_column, options.depth_column, options.id_column]
    wanted = [column for column in [*wanted, options.boxes_column.partition(".")[0]] if column]
    for column in wanted:
        if column not in rows.column_names:
            raise ValueError(f"{name}: no column {column!r}; it has {', '.join(rows.column_names)}")
    rows = rows.select_columns(wanted)
    for column, feature in rows.features.items():
        if isinstance(feature, Image):  # decoded later, where one bad picture does not stop the rest
            rows = rows.cast_column(column, Image(decode=False))
    return rows


def _decoded(item: Any) -> Any:
    if isinstance(item, Mapping):
        return PIL.Image.open(io.BytesIO(item["bytes"]) if item.get("bytes") else item["path"])
    return item if isinstance(item, str) else np.asarray(item)


def _boxes(row: Mapping[str, Any], column: str) -> list[Any]:
    """`boxes`, or `objects.box` for the boxes in a list of objects."""
    first, _, inner = column.partition(".")
    return [item[inner] for item in row[first]] if inner else row[first]


def _crop(rng: np.random.Generator, scale: float) -> Any:
    """A function that cuts the same part out of an image and its depth map."""
    side = float(np.sqrt(rng.uniform(scale, 1))) if scale < 1 else 1.0
    left, top = rng.uniform(0, 1 - side, 2) if side < 1 else (0.0, 0.0)

    def crop(picture: Any) -> Any:
        if side == 1 or isinstance(picture, str):
            return picture
        is_image = isinstance(picture, PIL.Image.Image)
        width, height = picture.size if is_image else picture.shape[-1:-3:-1]
        x, y = int(left * width), int(top * height)
        x2, y2 = x + max(int(side * width), 1), y + max(int(side * height), 1)
        return picture.crop((x, y, x2, y2)) if is_image else picture[..., y:y2, x:x2]

    return crop
