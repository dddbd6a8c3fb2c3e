"""From rows of captions, images and depth maps to batches; what cannot be read is skipped, counted and named."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node
from torch import Tensor

from ...data.splits import load_rows
from ...losses.contrastive import stable_ids
from ...models.image_files import read_image
from ...models.multimodal_towers import token_limit
from ...models.processing_multimodal_encoder import MultimodalEncoderProcessor
from .arguments import DataArguments
from .masked_images import paint_boxes

# What a sample may have; `depth` and `teacher_depth` are processed already, as a map may turn out to be none.
_OF_SAMPLES = ("caption", "image", "masked", "depth", "teacher_depth")


@dataclass(frozen=True)
class BadSample:
    """A row that cannot be used: its position and why."""

    index: int
    reason: str


@dataclass(frozen=True)
class ModelInputs:
    """What one model takes of a row.

    Args:
        processor: the model's.
        limit: the most tokens that it takes, or None.
        has_depth: whether it takes depth maps.
    """

    processor: MultimodalEncoderProcessor
    limit: int | None
    has_depth: bool = True

    @classmethod
    def of(cls, model: Any) -> "ModelInputs":
        """Those of a multimodal encoder; ValueError if it has no tokenizer."""
        model.processor.part("tokenizer")  # says how to give one
        return cls(model.processor, token_limit(model.text_encoder), model.config.depth_config is not None)

    def depth_values(self, depth_map: Any) -> Tensor:
        """[C, H, W]; a map that cannot be used is a ValueError."""
        return self.processor.depth_image_processor([depth_map])["pixel_values"][0]

    def pixels(self, images: list[PIL.Image.Image]) -> Tensor:
        """[B, 3, H, W]; all at once, as each call of a processor costs about as much as an image."""
        return self.processor.image_processor(images, return_tensors="pt")["pixel_values"]

    def batch(
        self, captions: list[str], images: list[PIL.Image.Image], depth_values: list[Tensor]
    ) -> dict[str, Tensor]:
        """What the model takes of B rows, [B, ...] each; without images or depth maps where there are none."""
        cut = {"truncation": self.limit is not None, "max_length": self.limit}
        inputs = dict(self.processor.tokenizer(captions, padding=True, return_tensors="pt", **cut))
        if images:
            inputs["pixel_values"] = self.pixels(images)
        if depth_values:
            inputs["depth_values"] = torch.stack(depth_values)
        return inputs


class SampleMaker:
    """A row → what the towers take, the same on every run: its randomness follows from seed, epoch and position.

    Args:
        options: columns and crops.
        inputs: what the model takes of a row.
        seed: of captions and crops.
        teacher: what the teacher takes of it, if there is one.
    """

    def __init__(self, options: DataArguments, inputs: ModelInputs, seed: int, teacher: ModelInputs | None = None):
        self.options, self.inputs, self.seed, self.teacher = options, inputs, seed, teacher

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
            if not isinstance(caption, str):
                raise TypeError(f"{caption!r} in column {options.text_column!r}, expected a caption")
        sample: dict[str, Any] = {"caption": caption, "index": index}
        sample["id"] = row[options.id_column] if options.id_column else index
        crop = _crop(rng, options.image_scale)
        if options.image_column:
            image = read_image(row[options.image_column], f"row {index}")
            if options.boxes_column and (boxes := _boxes(row, options.boxes_column)):
                sample["masked"] = crop(paint_boxes(image, boxes))
            sample["image"] = crop(image)
        if options.depth_column:
            depth_map = crop(_decoded(row[options.depth_column]))
            makers = {"depth": self.inputs} | ({"teacher_depth": self.teacher} if self.teacher is not None else {})
            sample |= {name: inputs.depth_values(depth_map) for name, inputs in makers.items() if inputs.has_depth}
        return sample


class Samples(torch.utils.data.Dataset):
    """The samples of a data set on disk, read a batch at a time."""

    def __init__(self, rows: Any, make: SampleMaker):
        self.rows, self.make, self.epoch = rows, make, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose captions and crops anew; Accelerate calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any] | BadSample:
        return self.make(self.rows[index], index, self.epoch)

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any] | BadSample]:
        columns = self.rows[indices]
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return [self.make(row, index, self.epoch) for row, index in zip(rows, indices, strict=True)]


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

    def __init__(self, make: SampleMaker):
        self.make = make

    def __call__(self, samples: Sequence[dict[str, Any] | BadSample]) -> dict[str, Any]:
        """The batch.

        Returns:
            `inputs`: what the model takes, [B, ...]; `teacher_inputs`: the same of the teacher; `ids`: modality → [B];
            `masked`: [K, 3, H, W] masked copies of images; `rows`: positions; `bad`: the bad samples.
        """
        make = self.make
        good = [sample for sample in samples if not isinstance(sample, BadSample)]
        bad = [sample for sample in samples if isinstance(sample, BadSample)]
        batch: dict[str, Any] = {"inputs": {}, "teacher_inputs": {}, "ids": {}, "masked": None, "rows": [], "bad": bad}
        if not good:
            return batch
        column = {name: [sample[name] for sample in good if name in sample] for name in _OF_SAMPLES}
        batch["inputs"] = make.inputs.batch(column["caption"], column["image"], column["depth"])
        if make.teacher is not None:
            batch["teacher_inputs"] = make.teacher.batch(column["caption"], column["image"], column["teacher_depth"])
        batch["ids"]["text"] = stable_ids(column["caption"])
        shown = stable_ids(sample["id"] for sample in good)
        batch["ids"] |= {modality: shown for modality in ("image", "depth") if column[modality]}
        if make.options.boxes_column:
            # An empty tensor where no image has boxes: other processes may have some.
            masked = column["masked"]
            batch["masked"] = make.inputs.pixels(masked) if masked else batch["inputs"]["pixel_values"][:0]
        batch["rows"] = [sample["index"] for sample in good]
        return batch


def make_loader(
    options: DataArguments, batch_size: int, make: SampleMaker, rank: int, world_size: int
) -> torch.utils.data.DataLoader:
    """Batches of the training rows; those of a stream are divided over processes already."""
    rows = load_rows(options, options.train_split)
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "collate_fn": Collate(make),
        "num_workers": options.num_workers,
        "drop_last": True,
    }
    if options.streaming:
        samples = StreamedSamples(rows, make, options.shuffle_buffer, rank, world_size)
        return torch.utils.data.DataLoader(samples, **settings)
    return torch.utils.data.DataLoader(Samples(rows, make), shuffle=True, **settings)


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
