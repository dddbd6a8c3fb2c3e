"""Images and depth maps on their way to embeddings: what is processed already, what is one input, what is many."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.utils import logging

from .encoding import Encoding
from .encoding_batches import Batch, Skipped, count, prepared_batches, usable
from .image_files import read_images

logger = logging.get_logger(__name__)

# That decode and resize: enough for an accelerator, and half the cores at most, for the network may need them.
_THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))


def depth_encoding(
    inputs: Any, processor: Callable[[], Any], embed: Callable[..., Tensor], dimensions: int
) -> Encoding:
    """Depth maps, raw or processed, on their way to [N, D]; `processor` is asked for when the first is read."""
    ready = processed_pixels(inputs)
    if ready is None:
        return raw_depth_encoding(inputs, processor, embed, dimensions)
    warn_of_raw_values(inputs, 1.01, "depth map")
    return Encoding("depth", partial(_ready_batches, ready), embed, dimensions, total=len(ready))


def raw_depth_encoding(
    inputs: Any, processor: Callable[[], Any], embed: Callable[..., Tensor], dimensions: int
) -> Encoding:
    """Raw depth maps on their way to [N, D]."""

    def prepare(maps: Any, first_index: int) -> dict[str, Tensor]:
        return dict(processor()(maps, first_index=first_index))

    return _raw_encoding("depth", inputs, is_single_map, prepare, embed, dimensions)


def raw_image_encoding(
    inputs: Any, processor: Callable[[], Any], embed: Callable[..., Tensor], dimensions: int
) -> Encoding:
    """Raw images on their way to [N, D]."""

    def prepare(images: Any, first_index: int) -> dict[str, Tensor]:
        return dict(processor()(read_images(images, first_index), return_tensors="pt"))

    return _raw_encoding("image", inputs, is_single_image, prepare, embed, dimensions)


def processed_pixels(inputs: Any, names: tuple[str, ...] = ("pixel_values",)) -> Tensor | None:
    """The tensor [N, C, H, W], if the inputs went through a processor already.

    Args:
        inputs: anything.
        names: what a processor may call the tensor, the best first.

    Raises:
        ValueError: for a mapping that holds none of the names.
    """
    # What has bytes or a path is an image that `datasets` did not decode.
    if isinstance(inputs, Mapping) and not {"bytes", "path"} & inputs.keys():
        for name in names:
            if name in inputs:
                return torch.as_tensor(inputs[name])
        raise ValueError(f"a mapping with {', '.join(map(str, inputs)) or 'nothing'}, expected {' or '.join(names)}")
    if isinstance(inputs, Tensor) and inputs.ndim == 4 and inputs.is_floating_point():
        return inputs
    return None


def warn_of_raw_values(inputs: Any, largest: float, what: str) -> None:
    """Warn where a tensor is taken for processed, and holds values that no processor gives."""
    if isinstance(inputs, Tensor) and inputs.numel() and not inputs.abs().amax() <= largest:
        logger.warning(
            "a 4-dimensional floating-point tensor is taken for processed, and this one lies outside [-%g, %g]; for a"
            " raw %s pass a list of them, or an array",
            *(largest, largest, what),
        )


def is_single_map(inputs: Any) -> bool:
    """Whether something is one depth map, or is meant as one, and not many."""
    # An array of no dimensions is one (bad) input too: it has no length, and the processor says what is wrong with it.
    return _is_single(inputs) or getattr(inputs, "ndim", 3) in (0, 2)


def _raw_encoding(
    tower: str,
    inputs: Any,
    is_single: Callable[[Any], bool],
    prepare: Callable[[Any, int], dict[str, Tensor]],
    embed: Callable[..., Tensor],
    dimensions: int,
) -> Encoding:
    def batches(batch_size: int, skipped: Skipped | None) -> Iterator[Batch]:
        batch = partial(usable, prepare=prepare, skipped=skipped)
        return prepared_batches(inputs, batch_size, is_single, batch, _THREADS)

    return Encoding(tower, batches, embed, dimensions, total=count(inputs, is_single))


def _ready_batches(ready: Tensor, batch_size: int, skipped: Skipped | None) -> Iterator[Batch]:
    for start in range(0, len(ready), batch_size):
        part = ready[start : start + batch_size]
        yield range(start, start + len(part)), {"pixel_values": part}


def is_single_image(inputs: Any) -> bool:
    """Whether something is one raw image, not many."""
    return _is_single(inputs) or getattr(inputs, "ndim", 4) in (0, 2, 3)


def _is_single(inputs: Any) -> bool:
    return isinstance(inputs, (str, bytes, Mapping, Image.Image)) or not hasattr(inputs, "__iter__")
