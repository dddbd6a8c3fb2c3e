"""What the options of both trainings share: the units of the depth maps, and values to choose from."""

from dataclasses import dataclass
from typing import Any

from ..data.presets import PRESETS, preset_name
from .option_parser import option

AUTO, NONE = "auto", "none"
PRECISIONS = ("no", "bf16", "fp16")
# Accelerate's, whose import takes seconds.
TRACKERS = ("tensorboard", "wandb", "trackio", "comet_ml", "aim", "mlflow", "clearml", "dvclive", "swanlab")


@dataclass
class DepthUnitArguments:
    """What the raw values of the training maps mean; it is saved, and holds for whoever uses the model."""

    preset: str = option("", f"units of a data set's depth maps: {', '.join(PRESETS)}")
    unit_scale: float | None = option(None, "metres in one unit of a depth map: 1, 0.001, ...")
    value_range: list[float] = option([], "low and high end in metres, which become -1 and 1")
    invalid_values: list[float] = option([], "raw values of a depth map that mean 'no measurement'")

    def __post_init__(self) -> None:
        if self.preset:
            try:
                self.preset = preset_name(self.preset)
            except ValueError as error:
                raise ValueError(f"--preset {error}") from None

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
