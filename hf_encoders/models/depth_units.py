"""Units of depth maps: what the raw values of known data sets mean, and a check that depths lie where they should.

| preset | raw values | source |
|---|---|---|
| `nyu` | metres: `depths` of the labelled .mat file | Silberman et al. 2012, NYU Depth Dataset V2 |
| `nyu-png` | millimetres: the 16-bit PNG files that others made of it | Lee et al. 2019, BTS (`depth / 1000`) |
| `scannet` | millimetres, 0 where nothing was measured | Dai et al. 2017, ScanNet, SensReader |
| `sunrgbd` | millimetres, the bits rotated left by 3 | Song et al. 2015, SUN RGB-D toolbox, `read3dPoints.m` |
| `kitti` | 1/256 metre, 0 where nothing was measured | Uhrig et al. 2017, KITTI depth devkit, `readme.txt` |
| `tum` | 1/5000 metre, 0 where nothing was measured | Sturm et al. 2012, TUM RGB-D, "File Formats" |
| `icl-nuim` | 1/5000 metre: the PNG files that are compatible with TUM's | Handa et al. 2014, ICL-NUIM |
| `habitat` | metres, 0 where nothing was hit: habitat-sim's depth sensor | Savva et al. 2019, Habitat |
| `habitat-normalized` | 0 to 1 for 0 to 10 metres: habitat-lab's `normalize_depth` | Savva et al. 2019, Habitat |
| `ros-32fc1` | metres, NaN where nothing was measured | Foote and Rusu 2011, ROS REP 118 |
| `ros-16uc1` | millimetres, 0 where nothing was measured | Foote and Rusu 2011, ROS REP 118 |
"""

import math
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, Literal, Protocol, TypedDict, cast, overload

import torch
from torch import Tensor
from transformers.processing_utils import Unpack

from .encoding import ComputeOptions, Encoded, Mask, Pictures, Vectors, refusing_others

PresetName = Literal[
    "nyu", "nyu-png", "scannet", "sunrgbd", "kitti", "tum", "icl-nuim", "habitat", "habitat-normalized",
    "ros-32fc1", "ros-16uc1",
]  # fmt: skip

_FILLS = ("mean", "min", "max")
_RESAMPLING = (0, 2)  # PIL's NEAREST and BILINEAR
# Pixels that are looked at per map.
_SAMPLES = 1024
# Maps that are judged together.
_WINDOW = 64
# Pixels within this share of the range count as being at its end, and this share of all is nearly all.
_END, _NEARLY_ALL = 0.01, 0.98
# Many maps may differ from the training maps by a factor of 2, one by 5. Of the sample scenes in their own unit, one
# in 40 is warned of alone, and about one in 200 draws of four or eight.
_TOLERANCE, _MORE_FOR_FEW = math.log(2), 1.4
_FEW_MAPS = 8
# What often stands for "no measurement"; 65535 is also the top of a height map that fills 16 bits.
_MARKERS = (65535, -9999)


class DepthUnits(TypedDict, total=False):
    """How the raw values of depth maps are read, for one call.

    Args:
        preset: the name of a data set or device whose units are used; what else is given comes on top of it.
        unit_scale: metres in one unit of the raw map.
        value_range: [low, high] in metres, which becomes [-1, 1].
        invalid_values: raw values that mean "no measurement".
    """

    preset: PresetName | None
    unit_scale: float | None
    value_range: Sequence[float] | None
    invalid_values: Sequence[float] | None


class DepthComputeOptions(ComputeOptions, DepthUnits, total=False):
    """`ComputeOptions`, and the units of depth maps."""


class DepthEncodeOptions(DepthComputeOptions, total=False):
    """`EncodeOptions`, and the units of depth maps."""

    convert_to: Literal["tensor", "numpy"]
    on_error: Literal["raise", "skip"]


class DepthPreset(TypedDict):
    """Settings of `DepthImageProcessor` that say what raw values mean, and the range that suits the data set."""

    unit_scale: float
    invalid_values: list[float | int]
    bit_rotation: int
    value_range: list[float | int]


def _preset(unit_scale: float, far: float, bit_rotation: int = 0) -> DepthPreset:
    return {"unit_scale": unit_scale, "invalid_values": [0], "bit_rotation": bit_rotation, "value_range": [0, far]}


PRESETS: Mapping[PresetName, DepthPreset] = {
    "nyu": _preset(1.0, 10),
    "nyu-png": _preset(1 / 1000, 10),
    "scannet": _preset(1 / 1000, 10),
    "sunrgbd": _preset(1 / 1000, 8, bit_rotation=3),
    "kitti": _preset(1 / 256, 80),
    "tum": _preset(1 / 5000, 10),
    "icl-nuim": _preset(1 / 5000, 10),
    "habitat": _preset(1.0, 10),
    "habitat-normalized": _preset(10.0, 10),
    "ros-32fc1": _preset(1.0, 10),
    "ros-16uc1": _preset(1 / 1000, 10),
}


def preset_named(name: str) -> DepthPreset:
    """A preset by its name, in any case, with `_` for `-`.

    Raises:
        ValueError: for another name; the message lists all.
    """
    key: Any = name.lower().replace("_", "-") if isinstance(name, str) else name
    key = {"sun-rgb-d": "sunrgbd", "sun-rgbd": "sunrgbd"}.get(key, key)
    if key not in PRESETS:
        raise ValueError(f"preset is one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[key]


def units_of(preset: str) -> dict[str, Any]:
    """What a preset says about raw values; the range belongs to a model."""
    found = preset_named(preset)
    return {name: value for name, value in found.items() if name != "value_range"}


def rotated(raw: Tensor, bits: int) -> Tensor:
    """16-bit integers whose bits are rotated right, as int32.

    Raises:
        ValueError: for other values.
    """
    if raw.is_floating_point() or raw.dtype == torch.bool:
        raise ValueError(f"values of {raw.dtype}, expected 16-bit integers, whose bits are rotated (bit_rotation)")
    values = raw.to(torch.int64)
    if values.numel() and not (0 <= values.amin() and values.amax() <= 0xFFFF):
        raise ValueError("values beyond 16 bits, expected 16-bit integers, whose bits are rotated (bit_rotation)")
    return ((values >> bits) | (values << (16 - bits))) & 0xFFFF


def check_settings(**settings: Any) -> None:
    """Raise ValueError for settings of `DepthImageProcessor` that make no sense."""
    if settings["normalization"] not in ("minmax", "range"):
        raise ValueError(f"normalization is 'minmax' or 'range', got {settings['normalization']!r}")
    if settings["normalization"] == "range":
        value_range = settings["value_range"]
        if (
            not _are_numbers(value_range)
            or len(value_range) != 2
            or not -math.inf < value_range[0] < value_range[1] < math.inf
        ):
            raise ValueError(f"value_range must be [low, high] in metres with low < high, got {value_range}")
    fill = settings["invalid_fill"]
    if fill not in _FILLS and not (isinstance(fill, (int, float)) and -1 <= fill <= 1):
        raise ValueError(f"invalid_fill is one of {', '.join(_FILLS)} or a number in [-1, 1], got {fill!r}")
    if settings["resample"] not in _RESAMPLING:
        raise ValueError(f"resample is NEAREST (0) or BILINEAR (2), got {settings['resample']!r}")
    if not (isinstance(settings["unit_scale"], Real) and 0 < float(settings["unit_scale"]) < math.inf):
        raise ValueError(f"unit_scale must be a positive number of metres, got {settings['unit_scale']!r}")
    if not _are_numbers(settings["invalid_values"]):
        raise ValueError(f"invalid_values is a list of numbers, got {settings['invalid_values']!r}")
    if settings["bit_rotation"] not in range(16):
        raise ValueError(f"bit_rotation is from 0 to 15, got {settings['bit_rotation']!r}")
    three = settings["value_percentiles"]
    if three is not None and not (_are_numbers(three) and len(three) == 3 and list(three) == sorted(three)):
        raise ValueError(f"value_percentiles is [1st, 50th, 99th] in metres, ascending, got {three!r}")
    if settings["num_channels"] < 1:
        raise ValueError(f"num_channels must be at least 1, got {settings['num_channels']}")
    if min(settings["size"].height or 0, settings["size"].width or 0) < 1:
        raise ValueError(f"size takes a height and a width, got {dict(settings['size'])}")


def _are_numbers(values: object) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(value, Real) for value in values)


class DepthRangeWarning(UserWarning):
    """Depths that lie elsewhere than the training maps: most often their unit is another one."""


class RangeCheck:
    """Compares the depths of a call with those of the training maps, and warns once where they differ.

    It looks at a sample of the pixels, and judges up to 64 maps at a time. The 1st, 50th and 99th percentile may differ
    from those of the training maps by a factor: a small one for many maps, a larger one for few, because one scene may
    be a close view. Depths are compared only where the settings map a fixed range ("range", not "minmax").
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: list[Tensor] = []
        self._settings: Mapping[str, Any] = {}
        self._said: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: a copy in another process begins anew."""
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        RangeCheck.__init__(self)

    def add(self, raw: Tensor, metres: Tensor, valid: Tensor, settings: Mapping[str, Any]) -> None:
        """Look at a map: its raw values, the same in metres, which of them are valid, and the processor's settings."""
        # The extremes first: they are cheaper than a comparison of each pixel. NaN is an extreme of its own.
        low, high = (bound.item() for bound in (raw.amin(), raw.amax()))
        for marker in _MARKERS:
            is_possible = not (marker < low or marker > high)
            if is_possible and marker not in settings["invalid_values"] and bool((raw == marker).any()):
                self._say(
                    str(marker),
                    f"a depth map has pixels of {marker}, which often means 'no measurement', and takes them for"
                    f" depths: list it in invalid_values if it is none",
                )
        if settings["normalization"] != "range" or not settings["do_normalize"]:
            return
        with self._lock:
            self._samples.append(sample(metres, valid))
            self._settings = settings
            full = len(self._samples) >= _WINDOW
        if full:
            self.finish()

    def finish(self) -> None:
        """Judge the maps that were added, and forget them."""
        self.judge()
        with self._lock:
            self._samples = []

    def judge(self) -> None:
        """Judge the maps that were added so far."""
        with self._lock:
            samples = list(self._samples)
        if samples:
            if problem := _problem(samples, self._settings):
                self._say("range", problem)

    def judge_now_and_then(self) -> None:
        """Judge after 1, 2, 4, 8, ... maps: for maps that arrive one by one, whose end nobody tells."""
        count = len(self._samples)
        if count & (count - 1) == 0:
            self.judge()

    def _say(self, kind: str, message: str) -> None:
        with self._lock:
            is_new = kind not in self._said
            self._said.add(kind)
        if is_new:
            warnings.warn(message, DepthRangeWarning, stacklevel=2)


def sample(metres: Tensor, valid: Tensor) -> Tensor:
    """About a thousand of the valid values, evenly spread."""
    step = max(metres.numel() // _SAMPLES, 1) | 1  # odd, so that it does not stay in some columns
    return metres.flatten()[::step][valid.flatten()[::step]].double()


def percentiles(samples: Sequence[Tensor]) -> list[float]:
    """The 1st, 50th and 99th percentile of all values together; NaN of none."""
    values = torch.cat(list(samples)) if samples else torch.empty(0, dtype=torch.float64)
    if not len(values):
        return [math.nan] * 3
    ordered = values.sort().values  # torch.quantile takes few values
    return [ordered[round(share * (len(ordered) - 1))].item() for share in (0.01, 0.5, 0.99)]


def _problem(samples: Sequence[Tensor], settings: Mapping[str, Any]) -> str:
    """What is odd about the depths of some maps, or nothing."""
    found = percentiles(samples)
    if math.isnan(found[0]):
        return ""
    known = settings["value_percentiles"]
    if known and _differs(found, known, len(samples)):
        return _message(found, settings, f"the training maps' were {_in_words(known)}")
    low, high = settings["value_range"]
    values = torch.cat(list(samples))
    if known and known[0] <= found[1] <= known[2] and len(samples) < _FEW_MAPS:
        return ""  # such as one scene that is far away
    margin = _END * (high - low)
    for at_the_end in (values <= low + margin, values >= high - margin):
        if at_the_end.double().mean() >= _NEARLY_ALL:
            return _message(found, settings, f"nearly all are at one end of the range [{low:g}, {high:g}] m")
    return ""


def _differs(found: Sequence[float], known: Sequence[float], maps: int) -> bool:
    tolerance = _TOLERANCE * (1 + _MORE_FOR_FEW / maps**0.75)
    if found[0] > 0 and known[0] > 0:
        factors = [math.log(one / other) for one, other in zip(found, known, strict=True)]
        return abs(sum(factors)) / len(factors) > tolerance
    spread = known[2] - known[0]  # heights, which may be negative
    is_apart = not known[0] - spread <= found[1] <= known[2] + spread
    return is_apart or found[2] - found[0] > spread * math.exp(tolerance)


def _in_words(three: Sequence[float]) -> str:
    return f"{three[1]:.3g} m (median; 1st to 99th percentile {three[0]:.3g} to {three[2]:.3g})"


def _message(found: Sequence[float], settings: Mapping[str, Any], other: str) -> str:
    return (
        f"depths of {_in_words(found)}, with unit_scale={settings['unit_scale']:g}, lie elsewhere than expected:"
        f" {other}. Is the unit of the depth maps another one? Say unit_scale (1 for metres, 0.001 for millimetres) or"
        f" preset ({', '.join(PRESETS)})"
    )


class EncodeDepth(Protocol):
    """The type of `encode_depth`: `Encode`, and the units of depth maps."""

    @overload
    def __call__(
        self,
        inputs: Pictures,
        batch_size: int = 32,
        *,
        convert_to: Literal["tensor"] = "tensor",
        on_error: Literal["raise"] = "raise",
        **options: Unpack[DepthComputeOptions],
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        inputs: Pictures,
        batch_size: int = 32,
        *,
        convert_to: Literal["numpy"],
        on_error: Literal["raise"] = "raise",
        **options: Unpack[DepthComputeOptions],
    ) -> Vectors: ...

    @overload
    def __call__(
        self,
        inputs: Pictures,
        batch_size: int = 32,
        *,
        convert_to: Literal["tensor"] = "tensor",
        on_error: Literal["skip"],
        **options: Unpack[DepthComputeOptions],
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def __call__(
        self,
        inputs: Pictures,
        batch_size: int = 32,
        *,
        convert_to: Literal["numpy"],
        on_error: Literal["skip"],
        **options: Unpack[DepthComputeOptions],
    ) -> tuple[Vectors, Mask]: ...

    @overload
    def __call__(self, inputs: Pictures, batch_size: int = 32, **options: Unpack[DepthEncodeOptions]) -> Encoded: ...


class EncodeDepthMethod(Protocol):
    """The type of such a method in its class."""

    def __get__(self, instance: object, owner: type | None = None) -> EncodeDepth: ...


def encode_depth_method(method: Callable[..., Encoded]) -> EncodeDepthMethod:
    """As `encode_method`, with the overloads of `EncodeDepth`, and the units among the options."""
    return cast(EncodeDepthMethod, refusing_others(method, DepthEncodeOptions.__annotations__))


__all__ = ["PRESETS", "DepthRangeWarning", "DepthUnits"]
