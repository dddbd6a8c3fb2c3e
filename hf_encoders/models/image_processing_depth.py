"""Prepares raw depth or height maps for the depth semantic encoder, without loss of precision."""

from .minimum_versions import MINIMUM_VERSIONS  # noqa: F401 - first, for the imports below ask for them

# isort: split
import inspect
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature, get_size_dict
from transformers.image_utils import SizeDict
from transformers.processing_utils import ImagesKwargs
from transformers.utils import logging

from .depth_map_files import DepthMapError, read_depth
from .depth_units import PresetName, RangeCheck, check_settings, percentiles, preset_named, rotated, sample, units_of

logger = logging.get_logger(__name__)

_NEAREST, _BILINEAR = int(Image.Resampling.NEAREST), int(Image.Resampling.BILINEAR)
# Transformers writes these beside the settings.
_JSON_KEYS = {"image_processor_type", "processor_class", "auto_map", "feature_extractor_type"}


# A file or its content, or a map [H, W] or [C, H, W]; of arrays and tensors, also many: [N, H, W] or [N, C, H, W].
DepthMap = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any] | Tensor | Mapping[str, object]


class DepthImageProcessorKwargs(ImagesKwargs, total=False):
    """The options that `DepthImageProcessor` adds to those of transformers."""

    num_channels: int
    unit_scale: float | int
    invalid_values: list[float | int]
    invalid_fill: str | float | int
    normalization: str
    value_range: list[float | int] | None
    bit_rotation: int
    value_percentiles: list[float] | None


class DepthImageProcessor(BaseImageProcessor):
    """Prepares depth or height maps: units, invalid pixels, size and normalisation to [-1, 1].

    Takes one map or many, as files (see `read_depth_map`) or their content, `{"bytes": ..., "path": ...}` as `datasets`
    gives undecoded, PIL images of any depth mode, arrays or tensors of any real type: [H, W], [H, W, 1], [N, H, W],
    [N, C, H, W], [N, H, W, 1], or a list whose items are [H, W], [H, W, 1] or [C, H, W]. Each map is prepared by
    itself, so a result never depends on the maps beside it.

    | maps                        | settings                                                                       |
    |-----------------------------|--------------------------------------------------------------------------------|
    | any unit, shape alone       | the defaults (each map is stretched from its own minimum to its maximum)       |
    | those of a known data set   | `DepthImageProcessor.from_preset("kitti")`; see `depth_units` for the names    |
    | 16-bit PNG in millimetres   | `unit_scale=0.001, normalization="range", value_range=[0, 10]`                 |
    | metres                      | `normalization="range", value_range=[0, 10]`                                   |
    | heights as legacy training  | `normalization="range", value_range=[-10, 10], invalid_values=[]`              |

    No file tells its unit. With "range", depths that lie elsewhere than the training maps (`value_percentiles`), or
    nearly all at one end of the range, are warned about once per call (`DepthRangeWarning`); so are pixels of 65535
    and -9999 that `invalid_values` does not list.

    Args:
        size: side or {"height", "width"} of the result in pixels.
        do_resize: whether to resize at all.
        resample: PIL's BILINEAR (2, antialiased) or NEAREST (0). Invalid pixels have no weight in the resampling.
        num_channels: channels of the result; a map of one channel is repeated to fill them.
        do_rescale: whether to multiply by `unit_scale`.
        unit_scale: metres in one unit of the raw map: 0.001 for millimetres, 1 for metres and unitless heights.
        invalid_values: raw values that mean "no measurement"; NaN and infinities always do.
        invalid_fill: what an invalid pixel becomes: the "mean", "min" or "max" of the map's valid pixels, or a number
            in [-1, 1] on the scale of the result.
        do_normalize: whether to normalise to [-1, 1].
        normalization: "minmax" (each map from its minimum to its maximum; a constant map becomes zeros) or "range".
        value_range: [low, high] in metres for "range": values are clipped to it, then mapped to [-1, 1].
        bit_rotation: how many bits 16-bit integers are rotated right before anything else: 3 for SUN RGB-D.
        value_percentiles: the 1st, 50th and 99th percentile of the training maps in metres, which depths are compared
            with; None where they are unknown.

    Raises:
        ValueError: for settings that make no sense.
        DepthMapError: for a map that cannot be read or has no valid pixel; the message names the file or the index.
    """

    valid_kwargs = DepthImageProcessorKwargs
    model_input_names = ["pixel_values"]

    do_resize = True
    size: Any = {"height": 128, "width": 128}
    resample = _BILINEAR
    num_channels = 1
    do_rescale = True
    unit_scale = 1.0
    invalid_values: list[float | int] = [0.0]
    invalid_fill: str | float | int = "mean"
    do_normalize = True
    normalization = "minmax"
    value_range: list[float | int] | None = None
    bit_rotation = 0
    value_percentiles: list[float] | None = None

    # Only these travel in the JSON; the rest of transformers' image options do not concern depth.
    _settings = (
        "do_resize", "size", "resample", "num_channels", "do_rescale", "unit_scale", "invalid_values", "invalid_fill",
        "do_normalize", "normalization", "value_range", "bit_rotation", "value_percentiles",
    )  # fmt: skip

    def __init__(self, **kwargs: Any):
        others = {name: value for name, value in kwargs.items() if name not in self._settings}
        unknown = others.keys() - _JSON_KEYS
        if unknown:  # a warning only: a repo's JSON may come from a later version
            logger.warning("DepthImageProcessor has no setting %s", ", ".join(sorted(unknown)))
        super().__init__(**others)
        for name in self._settings:
            value = kwargs.get(name)
            is_given = value is not None or (name in kwargs and name.startswith("do_"))  # None turns a step off
            setattr(self, name, value if is_given else deepcopy(getattr(self, name)))
        self.size = _size(self.size)
        check_settings(**{name: getattr(self, name) for name in self._settings})

    @classmethod
    def from_preset(
        cls, preset: PresetName, like: "DepthImageProcessor | None" = None, **settings: Any
    ) -> "DepthImageProcessor":
        """A processor for the units of a data set or device.

        ```python
        processor = DepthImageProcessor.from_preset("kitti")                        # metres from 0 to 80
        processor = DepthImageProcessor.from_preset("tum", like=model.depth_processor)    # as the model expects them
        ```

        Args:
            preset: a name in `depth_units.PRESETS`.
            like: a model's processor, all of whose settings but the units are kept: a model needs its own range.
            settings: settings of the class, on top.

        Raises:
            ValueError: for another name, or settings that make no sense.
        """
        if like is None:
            return cls(**{"normalization": "range", **preset_named(preset), **settings})
        kept = {name: value for name, value in like.to_dict().items() if name in cls._settings}
        return cls(**{**kept, **units_of(preset), **settings})

    def settings(self, preset: PresetName | None = None, **changes: Any) -> dict[str, Any]:
        """The settings of a call: those of the processor, of the preset on top, and the changes that are not None.

        Raises:
            TypeError: for a setting that there is not.
            ValueError: for settings that make no sense.
        """
        unknown = set(changes) - set(self._settings)
        if unknown:
            raise TypeError(f"DepthImageProcessor has no setting {', '.join(sorted(unknown))}")
        settings = {name: getattr(self, name) for name in self._settings} | (units_of(preset) if preset else {})
        settings |= {name: value for name, value in changes.items() if value is not None}
        settings["size"] = _size(settings["size"])
        if changes.get("value_range") is not None and changes.get("normalization") is None:
            settings["normalization"] = "range"  # the range would have no effect
        check_settings(**settings)
        return settings

    def metres(self, image: DepthMap, **changes: Any) -> tuple[Tensor, Tensor]:
        """A map's values [C, H, W] in metres, and a mask of those that are valid, by the settings of a call."""
        settings, name = self.settings(**changes), "map"
        raw = _with_raw_bits(self._to_tensor(image, name, settings["num_channels"]), name, settings)
        return _metres(self._with_channels(raw, name, settings["num_channels"]), settings)

    def measured_percentiles(self, images: Iterable[DepthMap]) -> list[float]:
        """The 1st, 50th and 99th percentile of maps in metres, by a sample of their valid pixels.

        Maps that cannot be read are left out. Without any map the result is NaN.
        """
        samples = []
        for image in images:
            try:
                samples.append(sample(*self.metres(image)))
            except DepthMapError:
                continue
        return percentiles(samples)

    @classmethod
    def option_names(cls) -> set[str]:
        """The options of a call: the settings, a preset of them, and the arguments of `preprocess`."""
        arguments = inspect.signature(cls.preprocess).parameters.keys() - {"self", "images", "kwargs"}
        return {*cls._settings, *arguments, "preset", "device"}

    def preprocess(
        self,
        images: DepthMap | Sequence[DepthMap],
        return_mask: bool = False,
        return_tensors: str | None = "pt",
        first_index: int = 0,
        range_check: RangeCheck | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare maps for the model.

        Args:
            images: maps as the class says; any setting of the class, and `preset`, can be given here for one call.
            return_mask: also return `pixel_mask`, true where a pixel was measured.
            return_tensors: "pt" or "np".
            first_index: what to add to the position of a map in error messages.
            range_check: collects the depths of several calls, which are then judged together.

        Returns:
            `pixel_values` [N, C, height, width] float32 in [-1, 1]; `pixel_mask` [N, height, width] bool on request.
        """
        others = {"device", "input_data_format", "data_format"}
        settings = self.settings(**{name: value for name, value in kwargs.items() if name not in others})
        check = range_check or RangeCheck()

        values, masks = [], []
        for index, item in enumerate(self._split(images), start=first_index):
            name = str(item) if isinstance(item, (str, os.PathLike)) and item else f"map {index}"
            try:
                raw = self._to_tensor(item, name, settings["num_channels"])
                value, mask = self._process_map(raw, name, check, settings)
            except DepthMapError as error:
                error.index = index
                raise
            values.append(value)
            masks.append(mask)
        if range_check is None:
            check.finish()
        if len({value.shape for value in values}) > 1:
            raise DepthMapError("the maps differ in size and do_resize is off: pass them one by one")
        shape = (0, settings["num_channels"], settings["size"].height, settings["size"].width)
        data = {"pixel_values": torch.stack(values) if values else torch.empty(shape)}
        if return_mask:
            data["pixel_mask"] = torch.stack(masks) if masks else torch.empty(shape[:1] + shape[2:], dtype=torch.bool)
        if kwargs.get("device") is not None:
            data = {key: value.to(kwargs["device"]) for key, value in data.items()}
        return BatchFeature(data, tensor_type=return_tensors)

    def to_dict(self) -> dict[str, Any]:
        """The settings, as they are saved."""
        settings = {name: getattr(self, name) for name in self._settings}
        settings["size"] = {"height": self.size.height, "width": self.size.width}
        # Names the file of this class, if it was saved with its code.
        auto_map = {"auto_map": self.auto_map} if hasattr(self, "auto_map") else {}
        return settings | {"image_processor_type": type(self).__name__} | auto_map

    @staticmethod
    def _split(images: DepthMap | Sequence[DepthMap]) -> Sequence[DepthMap]:
        """One item per map."""
        if isinstance(images, (str, os.PathLike, Image.Image, Mapping)):
            return [images]
        if isinstance(images, (np.ndarray, Tensor)):
            if images.ndim not in (2, 3, 4):
                raise DepthMapError(f"maps of shape {list(images.shape)}, expected [H, W], [N, H, W] or [N, C, H, W]")
            if images.ndim == 3 and images.shape[-1] in (2, 3, 4) and min(images.shape[:2]) > 4:
                raise DepthMapError(
                    f"an array of shape {list(images.shape)}, which looks like colours; expected maps [N, H, W]; for"
                    " narrow maps pass a list of them"
                )
            return [images] if is_one_map(images) else list(images)
        if not isinstance(images, Iterable):
            raise DepthMapError(f"a {type(images).__name__}, expected a map or a list of maps")
        return list(images)

    @staticmethod
    def _to_tensor(item: DepthMap, name: str, num_channels: int) -> Tensor:
        """Read an item as [H, W] or [C, H, W] of its own type."""
        depth_map = read_depth(item, name)
        # Grey in RGB without a file was converted, which cuts 16 bits off at 255 unnoticed.
        is_converted = isinstance(item, Image.Image) and item.mode == "RGB" and item.format is None
        if num_channels == 1 and depth_map.ndim == 2 and is_converted:
            raise DepthMapError(
                name=name,
                reason="grey in RGB that lies in memory, expected a path or one channel (L, I;16, I or F)",
                hint="transformers' image pipelines make 8-bit RGB of every file:"
                " pipeline('depth-feature-extraction'), by `import hf_encoders`, reads depth as it is",
            )
        return depth_map

    def _process_map(
        self, raw: Tensor, name: str, check: RangeCheck, settings: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Turn [H, W] or [C, H, W] of any real type into [C, height, width] float32 in [-1, 1] and a mask of bool."""
        raw = self._with_channels(_with_raw_bits(raw, name, settings), name, settings["num_channels"])
        values, valid = _metres(raw, settings)
        if not valid.any():
            markers = ", ".join(str(value) for value in [*settings["invalid_values"], "NaN", "inf"])
            raise DepthMapError(name=name, reason=f"no valid pixel, all are one of {markers} (see invalid_values)")
        check.add(raw, values, valid, settings)
        if settings["do_resize"]:
            values, valid = _resize(values, valid, settings["size"], settings["resample"])
            if not valid.any():
                raise DepthMapError(
                    name=name, reason="no valid pixel is among those that NEAREST keeps, expected at least one"
                )
        if settings["do_normalize"]:
            low, high = settings["value_range"] or (0, 0)
            if settings["normalization"] == "minmax":
                low, high = (bound.item() for bound in _bounds(values, valid))
            values = _to_unit_range(values.clamp(low, high), low, high)
        if not valid.all():
            values = torch.where(valid, values, _fill_value(values[valid], settings["invalid_fill"]))
        values = values.float().expand(settings["num_channels"], -1, -1).contiguous()
        return values, valid.all(dim=0)

    @staticmethod
    def _with_channels(raw: Tensor, name: str, num_channels: int) -> Tensor:
        """Convert a map to [1 or num_channels, H, W] in floating point that holds the raw values exactly."""
        if raw.is_complex():
            raise DepthMapError(name=name, reason="complex numbers, expected real ones")
        expected = "[H, W] or [1, H, W]" if num_channels == 1 else f"[H, W], [1, H, W] or [{num_channels}, H, W]"
        if raw.ndim == 2:
            raw = raw[None]
        elif is_one_map(raw) and raw.shape[0] != num_channels:
            raw = raw.movedim(-1, 0)
        if raw.ndim != 3 or raw.shape[0] not in (1, num_channels) or 0 in raw.shape:
            is_coloured = raw.ndim == 3 and 3 in (raw.shape[0], raw.shape[-1]) and sorted(raw.shape)[1] > 3
            colours = ", which looks like colours" if is_coloured else ""
            raise DepthMapError(name=name, reason=f"a map of shape {list(raw.shape)}{colours}, expected {expected}")
        # float32 holds 24 bits: enough for everything up to 16 bits, not for wider integers or doubles.
        wide = raw.dtype in (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)
        return raw.to(torch.float64 if wide else torch.float32)


def _size(size: Any) -> SizeDict:
    """A side or {"height", "width"}, as transformers keeps it."""
    return size if isinstance(size, SizeDict) else SizeDict(**get_size_dict(size))


def is_one_map(maps: np.ndarray[Any, Any] | Tensor) -> bool:
    """Whether an array or tensor is one map: [H, W], or [H, W, 1] as many libraries give it."""
    return maps.ndim == 2 or (maps.ndim == 3 and maps.shape[-1] == 1 and min(maps.shape[:2]) > 1)


def _with_raw_bits(raw: Tensor, name: str, settings: dict[str, Any]) -> Tensor:
    """Raw values with their bits where they belong."""
    try:
        return rotated(raw, settings["bit_rotation"]) if settings["bit_rotation"] else raw
    except ValueError as error:
        raise DepthMapError(name=name, reason=str(error)) from None


def _metres(raw: Tensor, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Raw values [C, H, W] in floating point → values in metres, and which of them are valid."""
    valid = torch.ones_like(raw, dtype=torch.bool)
    for invalid in settings["invalid_values"]:
        valid &= raw != invalid
    values = raw * settings["unit_scale"] if settings["do_rescale"] else raw
    valid &= values.isfinite()  # after the scale, which can make a finite value infinite
    return values, valid


def _resize(values: Tensor, valid: Tensor, size: SizeDict, resample: int) -> tuple[Tensor, Tensor]:
    """Resample the valid pixels alone: each result is the weighted mean of the valid pixels under its kernel."""
    target = cast(tuple[int, int], (size.height, size.width))  # `_size` gives both
    if values.shape[-2:] == target:
        return values, valid
    low, high = _bounds(values, valid)
    values = torch.where(valid, values, 0)[None]
    weights = valid.to(values.dtype)[None]
    if resample == _NEAREST:
        values, weights = (F.interpolate(maps, target, mode="nearest-exact")[0] for maps in (values, weights))
        return values, weights > 0
    # Halves, because the rounding of a sum of the largest floats can overflow.
    means = F.interpolate(values / 2, target, mode="bilinear", antialias=True)[0]
    if valid.all():
        valid = torch.ones_like(means, dtype=torch.bool)
    else:
        weights = F.interpolate(weights, target, mode="bilinear", antialias=True)[0]
        means, valid = means / weights, weights > 0
    # A mean lies within what it averages, its rounding may not: minmax would stretch that over a constant map.
    return (means * 2).clamp(low, high), valid


def _bounds(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest valid value. Gathering the valid values first would take longer than all else."""
    return torch.where(valid, values, math.inf).amin(), torch.where(valid, values, -math.inf).amax()


def _to_unit_range(values: Tensor, low: float, high: float) -> Tensor:
    if low == high:
        return torch.zeros_like(values)
    values = values.double()  # where differences of float32 neither overflow nor vanish
    if math.isinf(high - low):
        values, low, high = values / 2, low / 2, high / 2
    return ((values - low) / (high - low) * 2 - 1).clamp(-1, 1)


def _fill_value(valid_values: Tensor, fill: str | float) -> Tensor:
    if isinstance(fill, str):
        return getattr(valid_values, fill)()
    return valid_values.new_tensor(fill)


__all__ = ["DepthImageProcessor", "DepthImageProcessorKwargs"]
