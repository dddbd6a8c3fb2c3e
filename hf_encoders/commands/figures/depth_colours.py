"""Draws depth maps in colours: what is near is bright, what is far is dark."""

from typing import cast

import numpy as np
import PIL.Image

from ...arrays import AnyArray
from ...modalities import modalities
from ...models.depth_map_files import read_depth
from ...models.depth_units import DepthUnits
from ...models.image_processing_depth import DepthImageProcessor, DepthMap
from ...models.tower import Encoder

# Every 16th colour of matplotlib's "viridis" (CC0), in which equal steps look equal, whoever sees or prints them.
_VIRIDIS = [
    (68, 1, 84), (72, 24, 106), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141), (44, 114, 142),
    (38, 130, 142), (33, 145, 140), (31, 160, 136), (40, 174, 128), (63, 188, 115), (94, 201, 98), (132, 212, 75),
    (173, 220, 48), (216, 226, 25), (253, 231, 37),
]  # fmt: skip
_INVALID = (208, 212, 217)


class DepthColours:
    """Colours from each map's nearest valid pixel (yellow) to its farthest (violet); invalid pixels are grey.

    Args:
        processor: of the model that embeds the maps. Without one, raw values of 0, NaN and infinity are invalid.
        units: of the call.
    """

    def __init__(self, processor: DepthImageProcessor | None = None, units: DepthUnits | None = None):
        self._processor, self._units = processor, units or {}
        # A model that stretches each map has no unit.
        self._in_metres = processor is not None and processor.settings(**self._units)["normalization"] == "range"

    @classmethod
    def of(cls, model: Encoder, units: DepthUnits | None = None) -> "DepthColours":
        """The colours of a model's depth maps; of a model without a depth tower, those without a processor."""
        if "depth" not in modalities(model):
            return cls()
        return cls(model.tower("depth").processor, units)

    def draw(self, picture: object) -> tuple[PIL.Image.Image, str]:
        """An RGB picture of a map, and its range, such as "0.8 to 3.2 m", empty where the unit is not known.

        Args:
            picture: what `read_depth` takes.

        Raises:
            DepthMapError: if it is no depth map.
        """
        values, valid = self._values(picture)
        low, high = (values[valid].min(), values[valid].max()) if valid.any() else (0.0, 0.0)
        nearness = np.where(valid, (high - values) / max(high - low, 1e-12), 0).clip(0, 1)
        steps = np.linspace(0, 1, len(_VIRIDIS))
        colours = np.stack([np.interp(nearness, steps, channel) for channel in np.transpose(_VIRIDIS)], axis=-1)
        colours[~valid] = _INVALID
        shown = f"{low:.1f} to {high:.1f} m" if self._in_metres and valid.any() else ""
        return PIL.Image.fromarray(colours.round().astype(np.uint8)), shown

    def _values(self, picture: object) -> tuple[AnyArray, AnyArray]:
        """The first channel [H, W], in metres or raw units, and which pixels are valid."""
        if self._processor is None:
            raw = np.asarray(read_depth(picture, "a depth map"), np.float64)
            values = raw.reshape(-1, *raw.shape[-2:])[0]
            return values, np.isfinite(values) & (values != 0)
        values, valid = self._processor.metres(cast(DepthMap, picture), **self._units)
        return values[0].double().numpy(), valid[0].numpy()
