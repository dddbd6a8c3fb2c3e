"""The towers of pictures: images and depth maps, raw or processed."""

import os
from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import torch
from PIL import Image
from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling as Outputs
from transformers.utils import logging

from .image_files import read_images
from .image_processing_depth import DepthImageProcessor, DepthMap
from .tower import Processor, Tower

logger = logging.get_logger(__name__)

# Threads that decode and resize: at most 8, which is enough for an accelerator, and at most half of the cores, because
# the network may need the others.
_THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))
_BLANK_SIDE = 256


class PixelTower(Tower[Processor]):
    """The base of the towers of images and of depth maps.

    Attributes:
        processed_names: what a processor may call its tensor [N, C, H, W], the best first.
        noun: what messages call a raw input.
        largest: the largest value in a processor's tensor.
    """

    input_names = ("pixel_values",)
    processed_names: ClassVar[tuple[str, ...]] = ("pixel_values",)
    noun: ClassVar[str]
    largest: ClassVar[float]

    def processed(self, inputs: object) -> dict[str, Tensor] | None:
        """The tensor [N, C, H, W] of a processor's output, or a 4-dimensional floating-point *tensor* itself."""
        # A mapping with bytes or a path is an image that `datasets` did not decode.
        if isinstance(inputs, Mapping) and not {"bytes", "path"} & inputs.keys():
            for name in self.processed_names:
                if name in inputs:
                    return {"pixel_values": torch.as_tensor(inputs[name])}
            found, expected = ", ".join(map(str, inputs)) or "nothing", " or ".join(self.processed_names)
            raise ValueError(f"a mapping with {found}, expected {expected}")
        if isinstance(inputs, Tensor) and inputs.ndim == 4 and inputs.is_floating_point():
            self._warn_of_raw_values(inputs)
            return {"pixel_values": inputs}
        return None

    def outputs(self, batch: Mapping[str, Tensor]) -> Outputs:
        """The outputs of the model for `pixel_values` [B, C, H, W]."""
        return self._call(batch["pixel_values"], return_dict=True)

    def threads(self) -> int:
        """How many threads may prepare batches at a time."""
        return _THREADS

    def _warn_of_raw_values(self, pixel_values: Tensor) -> None:
        if pixel_values.numel() and not pixel_values.abs().amax() <= self.largest:
            logger.warning(
                "a 4-dimensional floating-point tensor is taken for processed, and this one lies outside [-%g, %g]; for"
                " a raw %s pass a list of them, or an array",
                self.largest,
                self.largest,
                self.noun,
            )


class ImageTower(PixelTower[BaseImageProcessor]):
    """Images → embeddings, by an image processor of transformers."""

    name = "image"
    noun = "image"
    largest = 16.0  # standardised pixels stay far below

    def is_single(self, inputs: object) -> bool:
        """Tell one image (a file, a PIL image, [H, W] or [H, W, C]) from many."""
        return is_single_image(inputs)

    def prepare(self, items: Sequence[object], first_index: int = 0) -> dict[str, Tensor]:
        """Images that `read_image` reads → `pixel_values` [B, C, H, W]."""
        return dict(self.processor(read_images(items, first_index), return_tensors="pt"))

    def example(self) -> dict[str, Tensor]:
        """Two black images, processed."""
        blank = Image.new("RGB", (_BLANK_SIDE, _BLANK_SIDE))
        return {"pixel_values": self.prepare([blank, blank])["pixel_values"]}


class DepthTower(PixelTower[DepthImageProcessor]):
    """Depth or height maps → embeddings, by a `DepthImageProcessor`."""

    name = "depth"
    processed_names = ("depth_values", "pixel_values")
    noun = "depth map"
    largest = 1.01

    def is_single(self, inputs: object) -> bool:
        """Tell one map (a file, a PIL image or [H, W]) from many."""
        return is_single_map(inputs)

    def prepare(self, items: Sequence[object], first_index: int = 0) -> dict[str, Tensor]:
        """Maps that `DepthImageProcessor` reads → `pixel_values` [B, C, H, W] in [-1, 1]."""
        return dict(self.processor.preprocess(cast(Sequence[DepthMap], items), first_index=first_index))

    def example(self) -> dict[str, Tensor]:
        """Two maps of zeros, as large as the processor makes them."""
        processor = self.processor
        shape = (2, processor.num_channels, processor.size["height"], processor.size["width"])
        return {"pixel_values": torch.zeros(shape)}


def is_single_image(inputs: object) -> bool:
    """Tell one raw image from many."""
    return _is_single(inputs) or getattr(inputs, "ndim", 4) in (0, 2, 3)


def is_single_map(inputs: object) -> bool:
    """Tell one depth map, or what is meant as one, from many."""
    # An array of no dimensions is one (bad) input too: it has no length, and the processor says what is wrong with it.
    return _is_single(inputs) or getattr(inputs, "ndim", 3) in (0, 2)


def _is_single(inputs: object) -> bool:
    return isinstance(inputs, (str, bytes, Mapping, Image.Image)) or not hasattr(inputs, "__iter__")
