"""When an input is none of the labels: a threshold that was measured, which travels in the configuration of a model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, TypeAlias

from transformers.configuration_utils import PreTrainedConfig

from .input_errors import InputError, one_line
from .weights_fingerprint import HasName, fingerprint
from .zero_shot_scores import KNOWN_SCORES, KnownScore

CALIBRATED: Literal["calibrated"] = "calibrated"
# What `classify` takes: a cosine, the calibration of the model, or neither.
Threshold: TypeAlias = float | Literal["calibrated"] | None
# Its field in config.json, also of models of other libraries.
FIELD = "zero_shot_calibration"
_CONFIG = "config.json"
_MAKE = "hf-encoders calibrate makes one"
_AGAIN = "hf-encoders calibrate makes a new one"


@dataclass(frozen=True)
class ModalityCalibration:
    """The thresholds of one modality.

    Args:
        score: which score of an input is compared; see `zero_shot_scores`.
        measured: number of labels → `threshold`, the least score of an input that gets labels where so many are asked
            for, and what was measured with it on rows that chose nothing; see `known_metrics`.
    """

    score: KnownScore
    measured: Mapping[int, Mapping[str, float]]

    def threshold(self, labels: int) -> float:
        """The least score of an input that gets one of so many labels.

        Between two numbers of labels that were measured it is the smaller one of theirs, which keeps more inputs.
        """
        below = max((count for count in self.measured if count <= labels), default=min(self.measured))
        above = min((count for count in self.measured if count >= labels), default=max(self.measured))
        return min(self.measured[count]["threshold"] for count in (below, above))


@dataclass(frozen=True)
class Calibration:
    """How a model tells inputs that are none of the labels, and what that was measured on.

    Args:
        fingerprint: of the weights that it holds for.
        templates: the prompts that it holds for.
        background: words that compete with the labels, where the score is "background".
        kept: the share of inputs with one of the labels that was to reach the threshold, from 0 to 1.
        modalities: "image" or "depth" → its thresholds.
        data: the rows that it was measured on, as plain data.
    """

    fingerprint: str
    templates: tuple[str, ...]
    background: tuple[str, ...]
    kept: float
    modalities: Mapping[str, ModalityCalibration]
    data: Mapping[str, object]

    def to_dict(self) -> dict[str, object]:
        """Plain data, as config.json holds it."""
        modalities = {
            name: {"score": one.score, "measured": {str(number): dict(row) for number, row in one.measured.items()}}
            for name, one in self.modalities.items()
        }
        lists = {"templates": list(self.templates), "background": list(self.background)}
        return {**asdict(self), **lists, "modalities": modalities}

    @classmethod
    def from_dict(cls, content: object) -> "Calibration":
        """The calibration that a configuration holds.

        Raises:
            InputError: if the data are none.
        """
        try:
            return _checked(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{FIELD} is no calibration ({type(error).__name__}: {one_line(error)})"
            raise InputError(name=_CONFIG, reason=reason, hint=_AGAIN) from None

    def check(self, model: HasName, templates: Sequence[str]) -> None:
        """Refuse another model or other prompts, with which inputs get other scores.

        Raises:
            ValueError: says what differs, and what to do.
        """
        if tuple(templates) != self.templates:
            raise ValueError(
                f"calibrated with the templates {', '.join(map(repr, self.templates))}, not"
                f" {', '.join(map(repr, templates))}: give those"
            )
        if getattr(model, "interpolate", None):
            raise ValueError("calibrated with images of the model's own size: leave interpolate out")
        if fingerprint(model) != self.fingerprint:
            raise ValueError(
                "the weights are not those that were calibrated (trained further, or loaded in another dtype):"
                f" {_AGAIN}"
            )

    def of(self, modality: str | None) -> ModalityCalibration:
        """The thresholds of a modality.

        Raises:
            ValueError: if none is named, or it is not calibrated.
        """
        names = " and ".join(self.modalities)
        if modality is None:
            raise ValueError(f"a calibrated threshold is one of a modality: say modality, {names}")
        if modality not in self.modalities:
            raise ValueError(f"calibrated for {names}, not for {modality}: {_AGAIN}")
        return self.modalities[modality]


class _Configured(Protocol):
    @property
    def config(self) -> PreTrainedConfig:
        """The configuration."""


def calibration_of(model: _Configured) -> Calibration:
    """The calibration that a model carries in its configuration.

    Raises:
        ValueError: if it carries none.
        InputError: if what it carries is none.
    """
    content = getattr(model.config, FIELD, None)
    if content is None:
        raise ValueError(f"the model has no calibration of what is none of the labels: {_MAKE}, or give a cosine")
    return Calibration.from_dict(content)


def _checked(content: object) -> Calibration:
    if not isinstance(content, Mapping):
        raise TypeError(f"{type(content).__name__}, expected an object")
    modalities: dict[str, ModalityCalibration] = {}
    for name, one in content["modalities"].items():
        if one["score"] not in KNOWN_SCORES:
            raise ValueError(f"score {one['score']!r}, expected one of {', '.join(KNOWN_SCORES)}")
        measured = {
            int(count): {key: float(value) for key, value in row.items()} for count, row in one["measured"].items()
        }
        if not measured or not all(math.isfinite(row["threshold"]) for row in measured.values()):
            raise ValueError(f"no thresholds of {name}")
        modalities[name] = ModalityCalibration(one["score"], measured)
    words = {name: tuple(content[name]) for name in ("templates", "background")}
    if not all(isinstance(word, str) for group in words.values() for word in group):
        raise TypeError("templates and background are lists of texts")
    return Calibration(
        fingerprint=content["fingerprint"],
        templates=words["templates"],
        background=words["background"],
        kept=float(content["kept"]),
        modalities=modalities,
        data=content["data"],
    )
