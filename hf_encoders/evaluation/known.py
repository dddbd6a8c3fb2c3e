"""How well a score tells inputs with one of the labels ("known") from others ("unknown"), and where to cut it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays import Numbers, as_vectors
from ..plurals import counted
from ..zero_shot import KNOWN_SCORES, KnownScore, ModalityCalibration, label_scores
from .probes import need_scikit_learn

# As many labels are asked for at a time, beside all of them.
FEW_LABELS = (5, 20)
# Known rows, and unknown ones; half of them choose, the others are measured.
LEAST_ROWS = 20
_DRAWS = 50
_TPR = 0.95
# The scores of one input differ by about as much, by rounding.
_ROUNDING = 1e-5


def known_metrics(known: Numbers, unknown: Numbers, threshold: float) -> dict[str, float]:
    """How well scores tell known from unknown inputs, by scikit-learn.

    Args:
        known: [N] scores of inputs that have one of the labels.
        unknown: [M] scores of inputs that have none.
        threshold: the least score that counts as known.

    Returns:
        `auroc`, the share of pairs of a known and an unknown input of which the known one has the larger score;
        `fpr_at_95_tpr`, the share of unknown inputs that pass where at least 95 % of the known ones do; and at the
        threshold `kept`, the share of known inputs that pass, `refused`, that of unknown ones that do not, and
        `balanced_accuracy`, the mean of both. All are from 0 to 1.

    Raises:
        ValueError: if a side is empty or holds NaN, or scikit-learn is not installed.
    """
    need_scikit_learn("a calibration")
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

    sides = as_vectors(known), as_vectors(unknown)
    for name, side in zip(("known", "unknown"), sides, strict=True):
        if side.ndim != 1 or not len(side) or np.isnan(side).any():
            raise ValueError(f"{name}: scores of shape {list(side.shape)}, expected [N] numbers, and no NaN")
    scores = np.concatenate(sides)
    is_known = np.arange(len(scores)) < len(sides[0])
    false_positives, true_positives, _ = roc_curve(is_known, scores, drop_intermediate=False)
    passes = scores >= np.float32(threshold)
    return {
        "auroc": float(roc_auc_score(is_known, scores)),
        "fpr_at_95_tpr": float(false_positives[true_positives >= _TPR].min()),
        "kept": float(passes[is_known].mean()),
        "refused": float(1 - passes[~is_known].mean()),
        "balanced_accuracy": float(balanced_accuracy_score(is_known, passes)),
    }


def choose_threshold(scores: Numbers, kept: float) -> float:
    """The largest threshold that a share of the scores reaches, less what rounding changes.

    Args:
        scores: [N], such as those of known inputs.
        kept: the share, above 0 and up to 1.

    Raises:
        ValueError: if there are no scores, or the share is out of range.
    """
    values = as_vectors(scores)
    if not len(values) or not 0 < kept <= 1:
        raise ValueError(f"{len(values)} scores of which {kept} are to be kept: expected some, and a share from 0 to 1")
    # 0.9 of 10 are 9, though 0.9 * 10 may be 9.000000000000002.
    least = float(np.sort(values)[::-1][math.ceil(round(kept * len(values), 9)) - 1])
    return least - _ROUNDING * abs(least)


@dataclass(frozen=True)
class Compared:
    """Rows of a data set, compared with all words.

    Args:
        cosines: [N, L] of rows and labels.
        background: [N, B] of rows and further words.
        right: [N], the number of the right label of a row; -1 for one that has none of them.
        temperature: what the model divides cosines by.
    """

    cosines: Tensor
    background: Tensor
    right: Tensor
    temperature: float

    def rows(self, chosen: Tensor) -> "Compared":
        """Some of the rows."""
        return Compared(self.cosines[chosen], self.background[chosen], self.right[chosen], self.temperature)

    def halves(self) -> tuple["Compared", "Compared"]:
        """Every second row of each label, and every second unknown one; and the others."""
        order = self.right.argsort(stable=True)
        return self.rows(order[::2]), self.rows(order[1::2])

    def scores(self, score: KnownScore, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of known and of unknown rows where only some labels are asked for.

        The other labels are background words then, and rows that have them are unknown.

        Args:
            score: which of the scores.
            labels: [L] booleans: whether a label is asked for.
        """
        others = torch.cat([self.cosines[:, ~labels], self.background], dim=1)
        best = label_scores(score, self.cosines[:, labels], others, self.temperature).amax(1)
        is_known = (self.right >= 0) & labels[self.right.clamp(min=0)]
        return best[is_known], best[~is_known]


@dataclass(frozen=True)
class Measured:
    """A score, its thresholds, and how well they do.

    Args:
        calibration: what a model carries: thresholds of one half of the rows, and `known_metrics` of the other.
        is_chosen: whether the score is the one that tells best.
    """

    calibration: ModalityCalibration
    is_chosen: bool


@torch.no_grad()
def measure_scores(
    compared: Compared,
    kept: float,
    scores: Sequence[KnownScore] = KNOWN_SCORES,
    numbers_of_labels: Sequence[int] = FEW_LABELS,
) -> list[Measured]:
    """Choose thresholds for each score on one half of the rows, and measure them on the other.

    People rarely ask for all labels. So a threshold is chosen for each of some numbers of labels, in random draws, and
    for all of them: the largest that the wanted share of known rows reaches. The chosen score is the one with the
    largest AUROC on the first half, the mean over the numbers of labels.

    Args:
        compared: known and unknown rows, at least 20 of each.
        kept: the share of known rows.
        scores: those that are tried.
        numbers_of_labels: how many labels are asked for at a time, beside all of them. Those that are not below the
            number of labels that rows have are left out.

    Raises:
        ValueError: if there are too few rows, or scikit-learn is not installed.
    """
    known = int((compared.right >= 0).sum())
    for what, count in {"one": known, "none": len(compared.right) - known}.items():
        if count < LEAST_ROWS:
            raise ValueError(f"{counted(count, 'row')} with {what} of the labels, expected at least {LEAST_ROWS}")
    first, second = compared.halves()
    asked = _asked_labels(compared, numbers_of_labels)
    found: list[ModalityCalibration] = []
    aurocs: list[float] = []
    for score in scores:
        choosing, others = (_scores_of(half, score, asked) for half in (first, second))
        thresholds = {number: choose_threshold(known, kept) for number, (known, _) in choosing.items()}
        on_first = [known_metrics(*choosing[number], threshold) for number, threshold in thresholds.items()]
        aurocs.append(sum(one["auroc"] for one in on_first) / len(on_first))
        measured = {
            number: {"threshold": threshold} | known_metrics(*others[number], threshold)
            for number, threshold in thresholds.items()
        }
        found.append(ModalityCalibration(score, measured))
    best = aurocs.index(max(aurocs))
    return [Measured(one, is_chosen=index == best) for index, one in enumerate(found)]


def _asked_labels(compared: Compared, numbers_of_labels: Sequence[int]) -> dict[int, list[Tensor]]:
    """Number of labels → draws of as many, as booleans [L]; of few labels, those that rows of both halves have."""
    count = compared.cosines.shape[1]
    halves = [set(half.right[half.right >= 0].tolist()) for half in compared.halves()]
    present = sorted(halves[0] & halves[1])
    random = np.random.default_rng(0)
    asked: dict[int, list[Tensor]] = {}
    for number in numbers_of_labels:
        if number < len(present):
            draws = [random.choice(present, number, replace=False) for _ in range(_DRAWS)]
            asked[number] = [_among(draw, count) for draw in draws]
    return asked | {count: [torch.ones(count, dtype=torch.bool)]}


def _among(draw: NDArray[np.int64], count: int) -> Tensor:
    labels = torch.zeros(count, dtype=torch.bool)
    labels[torch.from_numpy(draw)] = True
    return labels


def _scores_of(
    half: Compared, score: KnownScore, asked: Mapping[int, Sequence[Tensor]]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Number of labels → scores of known and of unknown rows, in all draws together."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for number, draws in asked.items():
        known, unknown = zip(*(half.scores(score, labels) for labels in draws), strict=True)
        found[number] = torch.cat(known), torch.cat(unknown)
    return found
