"""Options of both trainings for the units of the depth maps."""

from dataclasses import dataclass
from typing import Any

from .option_parser import option


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
