"""The units of the depth maps that a model is trained on, and what its processor keeps of them."""

import math
from collections.abc import Iterable

from ..models.image_processing_depth import DepthImageProcessor, DepthMap
from .shared_arguments import DepthUnitArguments

# Training maps that are looked at for the percentiles.
LOOKED_AT = 256
_DIGITS = 4


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


def check_depth_scale(share: float, processor: DepthImageProcessor) -> None:
    """Refuse another distance of depth maps where the processor takes it out again.

    Raises:
        ValueError: if depths are multiplied and each map is stretched to its own range.
    """
    if share and (processor.normalization == "minmax" or not processor.do_rescale):
        raise ValueError(
            "--depth_scale: has no effect where each map is stretched to its own range; leave it out, or set"
            ' --depth_processor {"normalization": "range", "value_range": [low, high]}'
        )
