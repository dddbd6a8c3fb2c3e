"""Nearest neighbours and the linear probe: against plain definitions, and their errors."""

import re

import numpy as np
import pytest
import torch
from accelerate import PartialState
from sklearn.linear_model import LogisticRegression

from hf_encoders.evaluation import probes
from hf_encoders.evaluation.evaluate import EvaluationOptions, evaluate
from hf_encoders.evaluation.probes import (
    PENALTIES,
    _classifier,
    _fitted,
    knn_answers,
    knn_metrics,
    linear_probe_answers,
    linear_probe_metrics,
)

pytestmark = pytest.mark.numeric

NAMES = np.array(["bed", "chair", "lamp", "sofa"])


def make_data(rows, spread, seed, dimensions=8):
    """Four overlapping classes; one feature never varies and one is a thousand times larger than the others."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(4, size=rows)
    embeds = np.random.default_rng(9).normal(size=(4, dimensions))[classes] + spread * rng.normal(
        size=(rows, dimensions)
    )
    embeds[:, 0] = 5
    embeds[:, 1] *= 1000
    return embeds.astype(np.float32), NAMES[classes]


TRAIN = make_data(200, 1.0, seed=1)
TEST = make_data(100, 1.0, seed=2)


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
@pytest.mark.parametrize("k", [1, 4, 200])
def test_knn_is_that_of_the_definition(k, chunk_size):
    # The large feature would leave cosines that differ by less than rounding.
    (train, train_labels), (test, test_labels) = ((side[0][:, 2:], side[1]) for side in (TRAIN, TEST))
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (train, test)]
    right = 0
    for similarities, label in zip(units[1] @ units[0].T, test_labels, strict=True):
        order = np.argsort(-similarities)
        nearest = order[:k]
        assert k == len(train) or similarities[order[k - 1]] - similarities[order[k]] > 1e-5
        score = {
            name: ((train_labels[nearest] == name).sum(), similarities[nearest][train_labels[nearest] == name].sum())
            for name in NAMES
        }
        right += max(score, key=score.get) == label
    found = knn_metrics(train, train_labels, test, test_labels, k=k, chunk_size=chunk_size)
    assert found == {"knn_accuracy": right / len(test)}


def test_similarity_decides_between_as_many_neighbours():
    train = [[1.0, 0.2], [1.0, 0.8], [1.0, 0.1], [1.0, 0.3]]
    assert knn_metrics(np.array(train), ["far", "far", "near", "near"], np.array([[1.0, 0]]), ["near"], k=4) == {
        "knn_accuracy": 1
    }


def test_the_fit_is_the_minimum_of_the_documented_function():
    features, classes = np.random.RandomState(0).randn(60, 5), np.arange(60) % 3
    probe = _fitted(_classifier(), features, classes, penalty=0.3)
    weights, bias = (torch.tensor(part, requires_grad=True) for part in (probe.coef_, probe.intercept_))
    scores = torch.tensor(features) @ weights.T + bias
    loss = torch.nn.functional.cross_entropy(scores, torch.tensor(classes)) + 0.3 / 2 * weights.square().sum()
    for gradient in torch.autograd.grad(loss, [weights, bias]):
        assert gradient.abs().max() < 1e-3


def test_scale_and_offset_of_a_feature_do_not_matter():
    scales, offsets = np.logspace(-3, 3, 8), np.linspace(-4, 4, 8)
    train, test = ((side[0] * scales + offsets, side[1]) for side in (TRAIN, TEST))
    metrics = linear_probe_metrics(*TRAIN, *TEST)
    assert linear_probe_metrics(*train, *test) == pytest.approx(metrics, abs=0.011)
    assert metrics["linear_probe_accuracy"] > 0.6


def test_linear_probe_never_chooses_by_the_test_part():
    metrics = linear_probe_metrics(*TRAIN, *TEST)
    assert metrics["linear_probe_penalty"] in PENALTIES
    assert linear_probe_metrics(*TRAIN, *TEST) == metrics
    for rows in (slice(0, 10), slice(10, 40)):
        other = linear_probe_metrics(*TRAIN, TEST[0][rows] * 2, TEST[1][rows])
        assert other["linear_probe_penalty"] == metrics["linear_probe_penalty"]


def test_the_penalty_is_chosen_on_rows_that_were_not_fitted():
    # A weak penalty fits the noise: it is right on more of the rows that it saw, and on fewer of the others.
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=1200)
    embeds = rng.normal(size=(1200, 60))
    embeds[:, 0] += 2 * labels
    metrics = linear_probe_metrics(embeds[:200], labels[:200], embeds[200:], labels[200:])
    assert 0.01 <= metrics["linear_probe_penalty"] <= 1
    assert metrics["linear_probe_accuracy"] > 0.775  # with the weakest 0.76, with the strongest 0.52


def test_each_candidate_is_fitted_without_the_rows_that_choose(monkeypatch):
    fitted, fit = [], LogisticRegression.fit
    monkeypatch.setattr(
        LogisticRegression,
        "fit",
        lambda probe, rows, classes: fitted.append((len(rows), probe.C)) or fit(probe, rows, classes),
    )
    linear_probe_metrics(*TRAIN, *TEST)
    assert fitted[:-1] == [(160, 1 / (penalty * 160)) for penalty in PENALTIES] and fitted[-1][0] == 200


def test_where_too_few_are_left_to_choose_the_strongest_penalty_is_taken():
    rows = np.eye(2)
    metrics = linear_probe_metrics(rows, ["a", "b"], rows, ["a", "b"])
    assert metrics == {"linear_probe_accuracy": 1, "linear_probe_penalty": max(PENALTIES)}


def test_no_warning_is_shown(recwarn):
    embeds = np.concatenate([np.eye(40), -np.eye(40)])  # which the weakest penalties separate for ever
    linear_probe_metrics(embeds, list(range(80)), embeds, list(range(80)))
    assert not recwarn.list


def test_without_scikit_learn_only_the_linear_probe_says_what_to_install(monkeypatch):
    monkeypatch.setattr(probes, "find_spec", lambda name: None)
    assert knn_metrics(*TRAIN, *TEST, k=5)["knn_accuracy"] > 0.5
    with pytest.raises(
        ValueError, match=r"the linear probe needs scikit-learn: pip install 'hf-encoders\[evaluation\]'"
    ):
        linear_probe_metrics(*TRAIN, *TEST)
    with pytest.raises(ValueError, match="the linear probe needs scikit-learn"):  # before anything is embedded
        evaluate(None, EvaluationOptions("data", tasks=["linear-probe"]), PartialState())


def test_of_equally_good_penalties_the_largest():
    embeds = torch.tensor([[0.0], [1]]).repeat(10, 1).requires_grad_()
    metrics = linear_probe_metrics(embeds, [0, 1] * 10, embeds, [0, 1] * 10)
    assert metrics == {"linear_probe_accuracy": 1, "linear_probe_penalty": max(PENALTIES)}


def test_a_label_that_train_lacks_is_wrong():
    train, labels = np.eye(2).repeat(5, axis=0), [3] * 5 + [4] * 5
    test, answers = torch.tensor([[1.0, 0], [0, 1], [1, 1], [1, 1]]), torch.tensor([3, 4, 5, 6])
    assert knn_metrics(train, labels, test, answers, k=3)["knn_accuracy"] == 0.5
    assert linear_probe_metrics(train, labels, test, answers)["linear_probe_accuracy"] == 0.5


def test_answers_are_labels_of_train():
    train, labels = np.eye(2).repeat(5, axis=0), ["bed"] * 5 + ["lamp"] * 5
    test, right = torch.tensor([[1.0, 0], [0, 1], [0, 1]]), ["bed", "lamp", "sofa"]
    assert knn_answers(train, labels, test, right, k=3) == ["bed", "lamp", "lamp"]
    answers, penalty = linear_probe_answers(train, labels, test, right)
    assert answers == ["bed", "lamp", "lamp"] and penalty in PENALTIES


ROWS, LABELS = np.eye(3), ["a", "b", "a"]
ERRORS = {
    "empty": (ROWS[:0], [], ROWS, LABELS, "train: no embeddings (shape [0, 3])"),
    "infinite": (ROWS, LABELS, np.where(ROWS > 0, np.inf, 0), LABELS, "test: row 0 has NaN or infinite values"),
    "dimensions": (ROWS, LABELS, ROWS[:, :2], LABELS, "train has embeddings of 3 dimensions, test of 2"),
    "labels": (ROWS, LABELS[:2], ROWS, LABELS, "train labels: 2 for 3 embeddings, expected one each"),
    "other labels": (ROWS, LABELS, ROWS, [0, 1, 0], "test labels: none of them is a label of train (such as 0, 'a')"),
}


@pytest.mark.parametrize("metrics", [knn_metrics, linear_probe_metrics])
@pytest.mark.parametrize("case", ERRORS)
def test_what_is_wrong_is_named(case, metrics):
    *data, message = ERRORS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        metrics(*data)


def test_options_out_of_range():
    with pytest.raises(ValueError, match="k must be from 1 to the 3 train embeddings, got 20"):
        knn_metrics(ROWS, LABELS, ROWS, LABELS)
    with pytest.raises(ValueError, match="train labels: one class only, expected at least two"):
        linear_probe_metrics(ROWS, ["a"] * 3, ROWS, LABELS)
