"""Makes batches of a collection of depth maps; maps that cannot be read are skipped and named."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from ...data.cells import path_of, picture_items
from ...data.source import Source, open_source
from ...models.depth_map_files import read_depth
from ...models.depth_units import RangeCheck
from ...models.image_processing_depth import DepthImageProcessor
from ...models.input_errors import InputError, one_line
from ..depth_units import check_depth_scale
from ..multimodal.samples import BadSample
from .arguments import DepthDataArguments


class DepthSample(TypedDict):
    """A prepared map: `pixel_values` [C, H, W], `pixel_mask` [H, W], its file or row, and its row number."""

    pixel_values: Tensor
    pixel_mask: Tensor
    name: str
    index: int


class DepthBatch(TypedDict):
    """The maps of a batch that could be read, and why others could not.

    `pixel_values` is [B, C, H, W], `pixel_mask` [B, H, W]; both are empty where no map could be read.
    """

    pixel_values: Tensor
    pixel_mask: Tensor
    names: list[str]
    indices: list[int]
    bad: list[str]


class DepthMaps(torch.utils.data.Dataset):
    """Some maps of a collection, prepared and augmented alike on every run.

    Args:
        source: the collection.
        indices: the rows that are used.
        processor: prepares a map.
        augmentation: how a map changes from epoch to epoch; None for no change.
        seed: the random numbers follow from it, the epoch and the row.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        processor: DepthImageProcessor,
        augmentation: DepthDataArguments | None = None,
        seed: int = 0,
    ):
        self.source = source
        self.items = picture_items(source.dataset, source.column)
        self.indices, self.processor = indices, processor
        self.augmentation = augmentation if augmentation is not None and augmentation.is_augmented else None
        self.seed, self.epoch = seed, 0
        self._range_check = RangeCheck()  # warns once

    def raw_maps(self, positions: Iterable[int]) -> Iterator[Tensor]:
        """Maps as they are stored; those that cannot be read are left out."""
        for position in positions:
            try:
                yield read_depth(self.items[self.indices[position]], "map")
            except InputError:  # training names the map and counts it
                continue

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmentation of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> DepthSample | BadSample:
        index = self.indices[position]
        name = f"row {index}"
        try:
            item = self.items[index]
            if path := path_of(item):  # files are known by their paths alone
                name = path if isinstance(item, str) else f"{name} ({path})"
            raw = read_depth(item, name)
            unit_scale = self.processor.unit_scale
            if self.augmentation is not None:
                rng = np.random.default_rng([self.seed, self.epoch, index])
                raw = _cropped(raw, self.augmentation, rng)
                # The processor scales: it knows the raw values that mean "no measurement".
                unit_scale *= _factor(self.augmentation, rng)
            prepared = self.processor.preprocess(
                [raw], return_mask=True, first_index=index, range_check=self._range_check, unit_scale=unit_scale
            )
        except InputError as error:
            return BadSample(index, f"{name}: {error.reason}")
        except Exception as error:  # the decoders raise anything on damaged maps
            return BadSample(index, f"{name}: {one_line(error)}")
        return {
            "pixel_values": prepared["pixel_values"][0],
            "pixel_mask": prepared["pixel_mask"][0],
            "name": name,
            "index": index,
        }


def open_maps(options: DepthDataArguments, processor: DepthImageProcessor, seed: int) -> tuple[DepthMaps, DepthMaps]:
    """Open the maps to train on, and the maps of the validation loss.

    Raises:
        ValueError: if there is no such collection or column, one of the two would be empty, or an augmentation would
            have no effect.
    """
    check_depth_scale(options.depth_scale, processor)
    source = _open(options, options.split)
    indices = list(range(len(source.dataset)))
    if options.validation_split:
        held_out_source = _open(options, options.validation_split)
        held_out = list(range(len(held_out_source.dataset)))
    else:
        held_out_source = source
        shuffled = np.random.default_rng(seed).permutation(indices).tolist()
        count = max(round(len(shuffled) * options.validation_share), 1)
        held_out, indices = sorted(shuffled[:count]), sorted(shuffled[count:])
    if not (len(indices) and len(held_out)):
        raise ValueError(f"{options.dataset}: {len(source.dataset)} maps are too few to train and to validate")
    return (
        DepthMaps(source, indices, processor, options, seed),
        DepthMaps(held_out_source, held_out, processor),
    )


def collate(samples: Sequence[DepthSample | BadSample]) -> DepthBatch:
    """Make a batch of samples."""
    good = [sample for sample in samples if not isinstance(sample, BadSample)]
    return {
        "pixel_values": torch.stack([sample["pixel_values"] for sample in good]) if good else torch.empty(0),
        "pixel_mask": torch.stack([sample["pixel_mask"] for sample in good]) if good else torch.empty(0),
        "names": [sample["name"] for sample in good],
        "indices": [sample["index"] for sample in good],
        "bad": [sample.reason for sample in samples if isinstance(sample, BadSample)],
    }


def _open(options: DepthDataArguments, split: str) -> Source:
    column = options.depth_column or None
    return open_source(options.dataset, "depth", column, split or None, column_option="--depth_column")


def _cropped(raw: Tensor, options: DepthDataArguments, rng: np.random.Generator) -> Tensor:
    """Cut a random part out of a map, and mirror it at random."""
    if options.crop_scale < 1:
        side = np.sqrt(rng.uniform(options.crop_scale, 1))
        height, width = (max(int(side * length), 1) for length in raw.shape[-2:])
        top = rng.integers(raw.shape[-2] - height + 1)
        left = rng.integers(raw.shape[-1] - width + 1)
        raw = raw[..., top : top + height, left : left + width]
    flips = [(options.horizontal_flip, -1), (options.vertical_flip, -2)]
    return raw.flip([dimension for wanted, dimension in flips if wanted and rng.random() < 0.5])


def _factor(options: DepthDataArguments, rng: np.random.Generator) -> float:
    return float(rng.uniform(1 - options.depth_scale, 1 + options.depth_scale))
