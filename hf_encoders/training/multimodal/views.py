"""A random view of a row: a part of its pictures, mirrored, brighter or farther away, with a caption that is true."""

import re
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from PIL import ImageEnhance
from torch import Tensor

from ...models.image_processing_depth import DepthImageProcessor
from ..depth_units import check_depth_scale

_ROOM_AROUND = 1.6  # an object is seen with up to so many times its size
_LEAST_SIDE = 0.2  # of the whole; less is too coarse to tell what it is


class View:
    """One view, the same of an image and its depth map.

    Args:
        rng: decides.
        scale: the smallest share of the area that is kept.
        mirrors: whether half of the views are mirrored.
    """

    def __init__(self, rng: np.random.Generator, scale: float, mirrors: bool = False):
        self.side = float(np.sqrt(rng.uniform(scale, 1))) if scale < 1 else 1.0
        self.left, self.top = 0.0, 0.0
        if self.side < 1:
            self.left, self.top = rng.uniform(0, 1 - self.side, 2)
        self.is_mirrored = mirrors and bool(rng.integers(2))

    @classmethod
    def around(cls, rng: np.random.Generator, box: Sequence[float], mirrors: bool = False) -> "View":
        """A view of an object: a part of the pictures in their own shape, with the object in its middle.

        Args:
            rng: decides how much is seen around the object.
            box: its corners [x1, y1, x2, y2], relative to the size.
            mirrors: whether half of the views are mirrored.
        """
        view = cls(rng, 1, mirrors)
        left, top, right, bottom = np.clip(box, 0, 1)
        side = max(right - left, bottom - top) * rng.uniform(1, _ROOM_AROUND)
        view.side = float(np.clip(side, _LEAST_SIDE, 1))
        middle = (left + right) / 2, (top + bottom) / 2
        view.left, view.top = (float(np.clip(at - view.side / 2, 0, 1 - view.side)) for at in middle)
        return view

    def caption(self, caption: str, words: Sequence[str]) -> str:
        """The caption of the view; a mirrored one has each word of a pair in the place of the other."""
        return exchanged(caption, words) if self.is_mirrored else caption

    def image(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """An image, as it is seen."""
        if self.side < 1:
            image = image.crop(self._box(*image.size))
        return PIL.ImageOps.mirror(image) if self.is_mirrored else image

    def depth(self, depth_map: Tensor) -> Tensor:
        """A map [..., H, W], as it is seen."""
        if self.side < 1:
            height, width = depth_map.shape[-2:]
            left, top, right, bottom = self._box(width, height)
            depth_map = depth_map[..., top:bottom, left:right]
        if self.is_mirrored:  # PyTorch flips no unsigned 16 bits
            depth_map = torch.from_numpy(np.flip(depth_map.numpy(), -1).copy())
        return depth_map

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        left, top = int(self.left * width), int(self.top * height)
        right, bottom = left + max(int(self.side * width), 1), top + max(int(self.side * height), 1)
        return left, top, right, bottom


class Jitter:
    """Another light and another distance, which leave a caption true: hues and shapes stay.

    Args:
        rng: decides, once for each share above 0.
        brightness: brightness and contrast are multiplied by 1 - brightness to 1 + brightness.
        depth_scale: depths are multiplied by 1 - depth_scale to 1 + depth_scale.
    """

    def __init__(self, rng: np.random.Generator, brightness: float, depth_scale: float):
        self.brightness, self.contrast = (_factor(rng, brightness) for _ in range(2))
        self.depth = _factor(rng, depth_scale)

    def image(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """An image in another light."""
        for enhance, factor in ((ImageEnhance.Brightness, self.brightness), (ImageEnhance.Contrast, self.contrast)):
            image = image if factor == 1 else enhance(image).enhance(factor)
        return image


def check_jitter(brightness: float, depth_scale: float, processor: DepthImageProcessor | None) -> None:
    """Refuse shares that are none, and a distance that the processor takes out again.

    Raises:
        ValueError: naming the option.
    """
    for name, share in (("image_brightness", brightness), ("depth_scale", depth_scale)):
        if not 0 <= share < 1:
            raise ValueError(f"--{name} {share}: expected a share from 0, and under 1")
    if processor is not None:
        check_depth_scale(depth_scale, processor)


def _factor(rng: np.random.Generator, share: float) -> float:
    return float(rng.uniform(1 - share, 1 + share)) if share else 1.0


def exchanged(text: str, words: Sequence[str]) -> str:
    """Exchange the words of pairs (left, right, ...), whole words alone; a capital letter stays at its place."""
    others: dict[str, str] = {}
    for first, second in zip(words[::2], words[1::2], strict=True):
        others |= {first.lower(): second, second.lower(): first}

    def other(match: "re.Match[str]") -> str:
        word = others[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

    pattern = "|".join(map(re.escape, sorted(others, key=len, reverse=True)))
    return re.sub(rf"\b(?:{pattern})\b", other, text, flags=re.IGNORECASE)


def check_pairs(words: Sequence[str]) -> None:
    """Raise ValueError unless words come in pairs, each once."""
    if len(words) % 2 or len({word.lower() for word in words}) < len(words) or not all(map(str.strip, words)):
        raise ValueError(
            f"--mirror_words {' '.join(words)}: give pairs of words that change places, each once, such as left right"
        )
