"""The towers of pictures: images and depth maps, raw or processed."""

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling as Outputs
from transformers.processing_utils import Unpack

from .depth_units import DepthEncodeOptions, DepthUnits, RangeCheck, encode_depth_method
from .encoding import Encoded, EncodeOptions, Pictures
from .image_files import is_deep, read_images
from .image_processing_depth import DepthImageProcessor, DepthMap, is_one_map
from .tower import Processor, Tower

# Threads that decode and resize: at most 8, which is enough for an accelerator, and at most half of the cores, because
# the network may need the others.
_THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))
_BLANK_SIDE = 256
# What decides the shape that a processor makes.
_SHAPE_SETTINGS = ("size", "crop_size", "pad_size", "do_resize", "do_center_crop", "do_pad", "num_channels")


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

    @property
    def function(self) -> tuple[object, ...]:
        """See `Tower`; a program takes pictures as large as the processor makes them."""
        try:
            settings = vars(self.processor)
        except (OSError, ValueError):  # a model without a processor
            settings = {}
        return *super().function, {name: settings.get(name) for name in _SHAPE_SETTINGS}

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
            warnings.warn(
                "a 4-dimensional floating-point tensor is taken for processed, and this one lies outside"
                f" [-{self.largest:g}, {self.largest:g}]; for a raw {self.noun} pass a list of them, or an array",
                stacklevel=2,
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
        if "depth" in getattr(self.model, "towers", ()) and any(is_deep(item) for item in items):
            warnings.warn(
                "pictures of 16 bits or of floats are scaled to 8 bits and taken for images: depth maps are for"
                " encode_depth (modality 'depth')",
                stacklevel=2,
            )
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

    def __init__(self, *arguments: object, **options: object):
        super().__init__(*arguments, **options)  # type: ignore[arg-type]  # the arguments of every tower
        self._units: DepthUnits = {}
        self._check = RangeCheck()  # a tower warns once

    @encode_depth_method
    def encode(  # type: ignore[override]  # every tower's options, and the units
        self, inputs: Pictures, batch_size: int = 32, **options: Unpack[DepthEncodeOptions]
    ) -> Encoded:
        """Embed depth maps, as every tower does.

        Args:
            inputs: what `DepthImageProcessor` reads, one map or many; or the processor's output.
            batch_size: how many maps the model sees at a time; it does not change the result.
            options: see `EncodeOptions`, and `DepthUnits` for what the raw values mean. With units, a 4-dimensional
                floating-point tensor is raw.

        Raises:
            ValueError: also for units of maps that went through the processor before.
        """
        given: Mapping[str, object] = options
        units = {name: given[name] for name in DepthUnits.__annotations__ if given.get(name) is not None}
        others = {name: value for name, value in given.items() if name not in DepthUnits.__annotations__}
        tower = self.with_units(cast(DepthUnits, units))
        encoded = super(DepthTower, tower).encode(inputs, batch_size, **cast(EncodeOptions, others))
        self.finish()
        return encoded

    def finish(self) -> None:
        """Warn of the maps that were prepared, if their depths lie elsewhere than those of training."""
        self._check.finish()

    def with_units(self, units: DepthUnits) -> "DepthTower":
        """This tower for maps in other units; others may use it as it is at the same time."""
        tower = copy.copy(self)
        tower._units = units
        return tower

    def processed(self, inputs: object) -> dict[str, Tensor] | None:
        """As every tower of pictures; with units, a tensor is raw."""
        if not self._units:
            return super().processed(inputs)
        if isinstance(inputs, Mapping) and not {"bytes", "path"} & inputs.keys():
            raise ValueError(f"{', '.join(self._units)}: for raw depth maps, and these went through the processor")
        return None

    def is_single(self, inputs: object) -> bool:
        """Tell one map (a file, a PIL image, [H, W] or [H, W, 1]) from many."""
        return is_single_map(inputs)

    def prepare(self, items: Sequence[object], first_index: int = 0) -> dict[str, Tensor]:
        """Maps that `DepthImageProcessor` reads → `pixel_values` [B, C, H, W] in [-1, 1]."""
        maps = cast(Sequence[DepthMap], items)
        return dict(self.processor.preprocess(maps, first_index=first_index, range_check=self._check, **self._units))

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
    if isinstance(inputs, (np.ndarray, Tensor)) and inputs.ndim == 3:
        return is_one_map(inputs)
    return _is_single(inputs) or getattr(inputs, "ndim", 3) in (0, 2)


def _is_single(inputs: object) -> bool:
    if isinstance(inputs, (str, bytes, bytearray, memoryview, Mapping, Image.Image)) or not hasattr(inputs, "__iter__"):
        return True
    return hasattr(inputs, "read")  # an open file, whose lines are no pictures
