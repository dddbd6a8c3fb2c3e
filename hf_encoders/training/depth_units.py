"""The units of the depth maps that a model is trained on, and what its processor keeps of them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..models.image_processing_depth import DepthImageProcessor, DepthMap
from .recipe import option

# Training maps that are looked at for the percentiles.
LOOKED_AT = 256
_DIGITS = 4


@dataclass
class DepthUnitArguments:
    """What the raw values of the training maps mean; it is saved, and holds for whoever uses the model."""

    preset: str = option("", "units of a data set's depth maps, such as kitti, tum or nyu; see DepthImageProcessor")
    unit_scale: float | None = option(None, "metres in one unit of a depth map: 1, 0.001, ...")
    value_range: list[float] = option([], "low and high end in metres, which become -1 and 1")
    invalid_values: list[float] = option([], "raw values of a depth map that mean 'no measurement'")

    @property
    def units(self) -> dict[str, Any]:
        """The options that are given, as `DepthImageProcessor.settings` takes them."""
        given = {
            "preset": self.preset or None,
            "unit_scale": self.unit_scale,
            "value_range": self.value_range or None,
            "invalid_values": self.invalid_values or None,
        }
        return {name: value for name, value in given.items() if value is not None}


def with_units(processor: DepthImageProcessor, options: DepthUnitArguments) -> DepthImageProcessor:
    """The processor with the units of the options.

    Raises:
        ValueError: if they make no sense.
    """
    return DepthImageProcessor(**processor.settings(**options.units)) if options.units else processor


def learn_percentiles(processor: DepthImageProcessor, maps: Iterable[DepthMap]) -> None:
    """Keep the 1st, 50th and 99th percentile of training maps in metres, with which later maps are compared.

    A processor that stretches each map to its own range has no use for them.
    """
    if processor.normalization != "range":
        return
    found = processor.measured_percentiles(maps)
    if all(map(math.isfinite, found)):
        processor.value_percentiles = [float(f"{value:.{_DIGITS}g}") for value in found]


def spread(count: int) -> range:
    """Positions of some of so many maps, evenly spread."""
    return range(0, count, max(1, math.ceil(count / LOOKED_AT)))


def described(processor: DepthImageProcessor) -> str:
    """What the raw values are taken for, and where the training maps lie, on one line."""
    if processor.normalization != "range" or processor.value_range is None:
        return "depth maps: each is stretched from its minimum to its maximum, whatever its unit"
    low, high = processor.value_range
    text = f"depth maps: raw value x {processor.unit_scale:g} = metres, seen from {low:g} to {high:g} m"
    if processor.value_percentiles is None:
        return text
    first, median, last = processor.value_percentiles
    return f"{text}; median {median:g} m, 1st to 99th percentile {first:g} to {last:g} m"
