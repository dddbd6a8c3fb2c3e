"""Known and unknown inputs: the metrics, where they are cut, and the choice of a score on rows that are held out."""

import math
import re

import numpy as np
import pytest
import torch

from hf_encoders.evaluation import probes
from hf_encoders.evaluation.known import LEAST_ROWS, Compared, choose_threshold, known_metrics, measure_scores

pytestmark = pytest.mark.numeric


def test_the_metrics_of_a_few_scores():
    """Of the 4 * 5 pairs, the known input is ahead in 4 + 4 + 4 + 2 and level in one."""
    known, unknown = [0.9, 0.8, 0.7, 0.3], [0.6, 0.5, 0.3, 0.2, 0.1]
    expected = {"auroc": 14.5 / 20, "fpr_at_95_tpr": 3 / 5, "kept": 3 / 4, "refused": 4 / 5}
    expected = {"auroc": (5 + 5 + 5 + 2 + 0.5) / 20} | {
        "fpr_at_95_tpr": 3 / 5, "kept": 3 / 4, "refused": 4 / 5, "balanced_accuracy": (3 / 4 + 4 / 5) / 2,
    }  # fmt: skip
    assert known_metrics(known, torch.tensor(unknown), 0.55) == pytest.approx(expected)


def test_95_percent_of_the_known_inputs_pass_at_least():
    known = np.arange(1, 21) / 20
    assert known_metrics(known, [0.07, 0.12], 0.5)["fpr_at_95_tpr"] == 0.5  # 19 of 20 have 0.1 or more
    assert known_metrics(known, [2.0, 3.0], 0.5) == {
        "auroc": 0, "fpr_at_95_tpr": 1, "kept": 11 / 20, "refused": 0, "balanced_accuracy": 11 / 40,
    }  # fmt: skip


@pytest.mark.parametrize(("kept", "passing"), [(0.9, 9), (0.91, 10), (1, 10), (0.05, 1), (0.3, 3)])
def test_a_threshold_keeps_the_share_and_no_more(kept, passing):
    scores = np.random.default_rng(0).permutation(np.arange(10)) / 10 - 0.4
    threshold = choose_threshold(scores, kept)
    assert (scores >= threshold).sum() == passing
    # Scores that rounding makes a little smaller pass too.
    assert (scores - 1e-7 >= threshold).sum() == passing or 0 in np.round(scores, 9)


@pytest.mark.parametrize(("scores", "kept"), [([], 0.9), ([0.1], 0), ([0.1], 1.1), ([0.1], math.nan)])
def test_no_scores_and_no_share(scores, kept):
    with pytest.raises(ValueError, match="expected some, and a share from 0 to 1"):
        choose_threshold(scores, kept)


@pytest.mark.parametrize(("known", "unknown", "name"), [([], [0.1], "known"), ([0.1], [math.nan], "unknown")])
def test_sides_that_tell_nothing(known, unknown, name):
    with pytest.raises(ValueError, match=rf"^{name}: scores of shape"):
        known_metrics(known, unknown, 0.5)


def test_scikit_learn_is_asked_for(monkeypatch):
    monkeypatch.setattr(probes, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=re.escape("a calibration needs scikit-learn: pip install 'hf-encoders[eval")):
        known_metrics([0.1], [0.2], 0.5)


def compared(labels=30, known=240, unknown=120, words=0, *, level=0.3, noise=0.05):
    """Known rows are nearer to their labels; how near all labels are differs from row to row by `level`."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=random)

    right = torch.cat([torch.arange(known) % labels, torch.full((unknown,), -1)])
    cosines = 0.05 * draw(known + unknown, labels) + level * draw(known + unknown, 1)
    cosines[torch.arange(known), right[:known]] += 0.25
    background = noise * draw(known + unknown, words)
    return Compared(cosines, background, right, 0.05)


def test_thresholds_keep_the_share_of_rows_that_chose_nothing_with_few_labels_and_with_all():
    for one in measure_scores(compared(), 0.8):
        assert list(one.calibration.measured) == [5, 20, 30]
        for row in one.calibration.measured.values():
            assert row["kept"] == pytest.approx(0.8, abs=0.15)


@pytest.mark.parametrize(
    ("rows", "best"), [({"level": 0.3}, "background"), ({"level": 0, "words": 5, "noise": 0.5}, "cosine")]
)
def test_the_score_that_tells_best_is_chosen(rows, best):
    found = measure_scores(compared(**rows), 0.9)
    (chosen,) = (one.calibration for one in found if one.is_chosen)
    aurocs = {
        one.calibration.score: np.mean([row["auroc"] for row in one.calibration.measured.values()]) for one in found
    }
    assert chosen.score == best == max(aurocs, key=aurocs.get)


def test_half_of_the_rows_choose_and_the_others_are_measured():
    """Every second row of each label is in the other half, and every second unknown one; they do not choose."""
    rows = compared()
    before = {one.calibration.score: one.calibration.measured for one in measure_scores(rows, 0.9)}
    changed = Compared(rows.cosines.clone(), rows.background, rows.right, rows.temperature)
    changed.cosines[rows.right.argsort(stable=True)[1::2]] -= 0.5
    for one in measure_scores(changed, 0.9):
        for number, row in one.calibration.measured.items():
            assert row["threshold"] == before[one.calibration.score][number]["threshold"]
    after = {one.calibration.score: one.calibration.measured for one in measure_scores(changed, 0.9)}
    assert after["cosine"][30]["kept"] < 0.5 < before["cosine"][30]["kept"]


def test_with_few_labels_rows_of_the_others_are_unknown():
    rows = compared(labels=3, known=6, unknown=2, words=2)
    asked = torch.tensor([True, False, True])
    known, unknown = rows.scores("cosine", asked)
    best = rows.cosines[:, [0, 2]].amax(1)
    assert known.tolist() == best[[0, 2, 3, 5]].tolist() and unknown.tolist() == best[[1, 4, 6, 7]].tolist()
    known, _ = rows.scores("background", asked)
    words = torch.cat([rows.cosines, rows.background], dim=1)
    torch.testing.assert_close(known, (words / 0.05).softmax(1)[:, [0, 2]].amax(1)[[0, 2, 3, 5]])


def test_labels_that_are_given_are_asked_for_all_at_a_time():
    (one,) = measure_scores(compared(), 0.9, ["cosine"], ())
    assert list(one.calibration.measured) == [30] and one.is_chosen


@pytest.mark.parametrize(("name", "what"), [("known", "one"), ("unknown", "none")])
def test_too_few_rows_are_refused(name, what):
    rows = compared(**{name: LEAST_ROWS - 1})
    with pytest.raises(ValueError, match=f"^19 rows with {what} of the labels, expected at least 20$"):
        measure_scores(rows, 0.9)
    assert measure_scores(compared(**{name: LEAST_ROWS}), 0.9)
