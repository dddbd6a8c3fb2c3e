"""Masked copies of images: with boxes painted black, they are hard negatives of texts that describe the boxes."""

import math
from collections.abc import Sequence
from typing import overload

import torch
from PIL import Image
from torch import Tensor

from ...models.image_files import read_image

MAX_BOXES = 15
_ROUNDING = 1e-6  # pixels; a relative border this close to a whole pixel is that pixel


@overload
def paint_boxes(
    image: Image.Image, boxes: Sequence[Sequence[float]], black: float | Sequence[float] = ...
) -> Image.Image: ...


@overload
def paint_boxes(image: Tensor, boxes: Sequence[Sequence[float]], black: float | Sequence[float] = ...) -> Tensor: ...


def paint_boxes(
    image: Image.Image | Tensor, boxes: Sequence[Sequence[float]], black: float | Sequence[float] = 0.0
) -> Image.Image | Tensor:
    """Paint boxes black, on a copy.

    Args:
        image: a PIL image, or pixels [C, H, W].
        boxes: corners [x1, y1, x2, y2], x to the right, y down. They are relative to the size if all four are at most
            1, otherwise in pixels. Boxes after the first 15 are ignored, as in the legacy training. Every pixel that a
            box touches is painted; parts outside of the image are cut off.
        black: the value of black in a tensor, one or one per channel: (0 - mean) / std after normalisation, so -1 with
            ViT's. In a PIL image it is 0.

    Returns:
        The copy: a tensor of the same type, or an RGB image, upright as `encode_image` sees it; so must the boxes.

    Raises:
        ImageError: if the image cannot be read.
        ValueError: if there are no boxes (the copy would be the image itself), or a box does not have four finite
            numbers, has no area, or lies outside of the image.
        TypeError: if the image is neither a PIL image nor a tensor.
    """
    if isinstance(image, Image.Image):
        upright = read_image(image, "the image")
        copy: Image.Image | Tensor = upright
        width, height = upright.size
    elif isinstance(image, Tensor):
        if image.ndim != 3:
            raise ValueError(f"the pixels are {list(image.shape)}, expected [C, H, W]")
        copy = image.clone()
        height, width = image.shape[1:]
    else:
        raise TypeError(f"expected a PIL image or a tensor, got {type(image).__name__}")
    if not len(boxes):
        raise ValueError("no boxes: the masked copy would be the image itself")

    for index, box in enumerate(boxes[:MAX_BOXES]):
        left, top, right, bottom = _pixels(index, box, width, height)
        if isinstance(copy, Tensor):
            colour = torch.as_tensor(black, dtype=copy.dtype, device=copy.device)
            copy[:, top:bottom, left:right] = colour.reshape(-1, 1, 1)
        else:
            copy.paste((0, 0, 0), (left, top, right, bottom))
    return copy


def _pixels(index: int, box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Turn a box into pixels: left, top, right, bottom, the last two exclusive."""
    try:
        numbers = [float(number) for number in box]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"box {index} is {box!r:.80}, expected four finite numbers [x1, y1, x2, y2]")
    x1, y1, x2, y2 = numbers
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"box {index} is {numbers}, expected x1 < x2 and y1 < y2")
    if max(numbers) <= 1:
        x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
    left, top = max(math.floor(x1 + _ROUNDING), 0), max(math.floor(y1 + _ROUNDING), 0)
    right, bottom = min(math.ceil(x2 - _ROUNDING), width), min(math.ceil(y2 - _ROUNDING), height)
    if left >= right or top >= bottom:
        raise ValueError(f"box {index} is {numbers}: outside of the image, which is {width} x {height} pixels")
    return left, top, right, bottom
