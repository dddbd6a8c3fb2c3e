"""How a converted encoder's images are prepared: as a person says, as the file says, or as its family does it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from transformers import BitImageProcessorPil, CLIPImageProcessorPil
from transformers.image_processing_utils import BaseImageProcessor

from ...models.input_errors import InputError
from ..assumptions import Assumption
from ..families.family import Images
from ..tower_sources import read_processor_of_images
from .stated import stated_numbers, stated_values

_MEAN, _STD = ("mean", "image_mean", "img_mean"), ("std", "image_std", "img_std")
_SIZES = ("input_size", "img_size", "image_size", "crop_size", "train_crop_size", "global_crops_size")
_CROPS = ("crop_pct",)
_RESAMPLINGS = {"bilinear": 2, "bicubic": 3}
_BYTE = 255
_INTERPOLATE = "leave it out, and say --interpolate {} to the commands that embed"


@dataclass(frozen=True)
class ImageOptions:
    """What a person says about the images of an encoder. None: not said.

    Args:
        mean: of each channel, of values between 0 and 1.
        std: of each channel.
        image_size: the side of the square that the network takes, in pixels.
        image_processor: folder or Hub id of an image processor, which says all of it.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: int | None = None
    image_processor: str | None = None


@dataclass(frozen=True)
class ImagePreparation:
    """The processor of images, and where it comes from.

    Args:
        processor: None if nothing tells what the channels are.
        assumed: what nothing told.
        source: the name of the processor that was read; None if it was made.
    """

    processor: BaseImageProcessor | None
    assumed: tuple[Assumption, ...]
    source: str | None = None


def prepare_images(
    path: object, images: Images, metadata: Mapping[str, object], options: ImageOptions, architecture: str
) -> ImagePreparation:
    """Find how the images of an encoder are prepared.

    Args:
        path: the file, for errors.
        images: what the family does.
        metadata: what the file says.
        options: what a person says.
        architecture: the class of the model.

    Raises:
        InputError: if an option does not fit the network.
    """
    if options.image_processor is not None:
        if options.mean or options.std or options.image_size:
            raise InputError(
                path=path, reason="--image-processor says the mean, the deviation and the size; leave them out"
            )
        processor = read_processor_of_images(
            "--image-processor", options.image_processor, images.channels, images.size, _INTERPOLATE.format("SIZE")
        )
        return ImagePreparation(processor, (), options.image_processor)
    mean, std, of_values = _normalisation(path, images, metadata, options)
    side, of_size = _side(path, images, metadata, options)
    if reason := images.misfit(side):
        raise InputError(path=path, reason=reason)
    if mean is None or std is None:
        return ImagePreparation(None, ())
    kind = CLIPImageProcessorPil if architecture.startswith("CLIP") else BitImageProcessorPil
    crop = next((crop for (crop,) in _singles(metadata, _CROPS) if 0 < crop <= 1), None)
    resample = next((name for name in _names(metadata) if name in _RESAMPLINGS), None)
    shorter = math.floor(side / (crop or images.crop))
    processor = kind(
        size={"shortest_edge": shorter},
        crop_size={"height": side, "width": side},
        image_mean=list(mean),
        image_std=list(std),
        resample=_RESAMPLINGS[resample or images.resample],
        do_convert_rgb=images.channels == 3,
    )
    of_resizing = None
    if crop is None or resample is None:
        cut = f", and the middle {side} taken" if shorter != side else ""
        what = f"the shorter side of images resized to {shorter} pixels ({resample or images.resample}){cut}"
        of_resizing = Assumption("resizing", what, ("--image-processor",), of_network=False)
    return ImagePreparation(processor, tuple(filter(None, (of_values, of_size, of_resizing))))


def _normalisation(
    path: object, images: Images, metadata: Mapping[str, object], options: ImageOptions
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None, Assumption | None]:
    given = {"--mean": options.mean, "--std": options.std}
    if any(given.values()) and not all(given.values()):
        raise InputError(path=path, reason="--mean and --std go together")
    for option, values in given.items():
        if values is not None and len(values) != images.channels:
            raise InputError(
                path=path,
                reason=f"{option} has {len(values)} numbers, and the network takes {images.channels} channels",
            )
    if options.std and min(options.std) <= 0:
        raise InputError(path=path, reason="--std holds a zero, and values are divided by it")
    if options.mean and options.std:
        return options.mean, options.std, None
    mean, std = (_stated_channels(metadata, names, images.channels) for names in (_MEAN, _STD))
    if mean and std and min(std) > 0:
        scale = _BYTE if max(std) > 1 else 1  # OpenMMLab counts in bytes
        return tuple(x / scale for x in mean), tuple(x / scale for x in std), None
    if images.channels != len(images.mean):
        return None, None, None
    what = f"mean {_text(images.mean)} and standard deviation {_text(images.std)} of the images"
    return images.mean, images.std, Assumption("normalisation", what, ("--mean with --std",), of_network=False)


def _side(
    path: object, images: Images, metadata: Mapping[str, object], options: ImageOptions
) -> tuple[int, Assumption | None]:
    if images.size is not None:
        if options.image_size not in (None, images.size):
            raise InputError(
                path=path,
                reason=f"--image-size {options.image_size}: the file's positions are those of {images.size} pixels",
                hint=_INTERPOLATE.format(options.image_size),
            )
        return images.size, None
    if options.image_size is not None:
        return options.image_size, None
    for numbers in stated_numbers(metadata, *_SIZES):
        side = numbers[-1]
        if side == int(side) and side >= 1 and len(set(numbers[-2:])) == 1:
            return int(side), None
    likely = images.likely_size
    return likely, Assumption("image size", f"images of {likely} pixels", ("--image-size",), of_network=False)


def _stated_channels(metadata: Mapping[str, object], names: tuple[str, ...], channels: int) -> tuple[float, ...] | None:
    found = (numbers for numbers in stated_numbers(metadata, *names) if len(numbers) == channels)
    return next((numbers for numbers in found if all(math.isfinite(x) for x in numbers)), None)


def _singles(metadata: Mapping[str, object], names: tuple[str, ...]) -> Iterator[tuple[float, ...]]:
    return (numbers for numbers in stated_numbers(metadata, *names) if len(numbers) == 1)


def _names(metadata: Mapping[str, object]) -> Iterator[str]:
    return (value for value in stated_values(metadata, "interpolation") if isinstance(value, str))


def _text(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
