"""Probing classifiers on frozen embeddings: nearest neighbours and a linear probe.

Neighbours are found on the device of the train embeddings, the linear probe is scikit-learn's. The test part never
chooses anything.
"""

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import Indices, Mask, Numbers, Vectors
from ..top_k import top_k
from .checks import Items, check_dimensions, check_positive, finite_rows, listed

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

# From strong to weak, the square root of ten apart: the accuracy is flat around its best.
PENALTIES = tuple(10 ** (-exponent / 2) for exponent in range(-2, 11))
_HELD_OUT = 5  # every fifth row of a class
_ITERATIONS = 1000


@torch.no_grad()
def knn_metrics(
    train_embeds: Numbers,
    train_labels: Items,
    test_embeds: Numbers,
    test_labels: Items,
    *,
    k: int = 20,
    chunk_size: int = 2048,
) -> dict[str, float]:
    """Accuracy of the most frequent label among the k nearest train embeddings (by cosine).

    Among equally frequent labels the one with the largest sum of similarities wins.

    Args:
        train_embeds: [N, D].
        train_labels: N integers or strings.
        test_embeds: [M, D].
        test_labels: M integers or strings. A label that train does not have counts as wrong.
        k: neighbours, at most N.
        chunk_size: how many rows of each side are compared at a time. It does not change the result.

    Returns:
        `knn_accuracy`, from 0 to 1.

    Raises:
        ValueError: if a side is empty or not finite, lengths or dimensions differ, or k is out of range.
    """
    check_positive(chunk_size, "chunk_size")
    train, train_classes, test, test_classes = _data(train_embeds, train_labels, test_embeds, test_labels)
    if not 1 <= k <= len(train):
        raise ValueError(f"k must be from 1 to the {len(train)} train embeddings, got {k}")
    train, test = nn.functional.normalize(train, dim=-1), nn.functional.normalize(test, dim=-1)

    right = 0
    for rows, answers in zip(test.split(chunk_size), test_classes.split(chunk_size), strict=True):
        nearest, neighbours = top_k((rows @ chunk.T for chunk in train.split(chunk_size)), k)
        labels = train_classes[neighbours]
        votes = nearest.new_zeros(len(rows), int(train_classes.max()) + 1)
        sums = votes.scatter_add(1, labels, nearest)
        votes.scatter_add_(1, labels, torch.ones_like(nearest))
        most = votes == votes.amax(1, keepdim=True)
        right += int((sums.masked_fill(~most, -torch.inf).argmax(1) == answers).sum())
    return {"knn_accuracy": right / len(test)}


def linear_probe_metrics(
    train_embeds: Numbers, train_labels: Items, test_embeds: Numbers, test_labels: Items
) -> dict[str, float]:
    """Accuracy of multinomial logistic regression on frozen embeddings, by scikit-learn's `LogisticRegression`.

    Features are standardised by the train part. Every fifth row of a class in train is held out, the rest is fitted
    with each L2 penalty, and the penalty with the best accuracy on the held-out rows is chosen (the largest among
    equally good ones). Then all of train is fitted with it. The minimised function is the mean cross-entropy +
    penalty / 2 * the sum of squared weights, so scikit-learn's C is 1 / (penalty * N). The same input gives the same
    result.

    Args:
        train_embeds: [N, D].
        train_labels: N integers or strings, of at least two classes.
        test_embeds: [M, D].
        test_labels: M integers or strings. A label that train does not have counts as wrong.

    Returns:
        `linear_probe_accuracy` (from 0 to 1) and `linear_probe_penalty`, the one chosen.

    Raises:
        ValueError: if a side is empty or not finite, lengths or dimensions differ, or train has one class only; and
            where scikit-learn is not installed.
    """
    need_scikit_learn()
    parts = _data(train_embeds, train_labels, test_embeds, test_labels)
    train, train_classes, test, test_classes = (part.cpu().numpy() for part in parts)
    if not train_classes.any():
        raise ValueError("train labels: one class only, expected at least two")
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    held_out = np.zeros(len(train), bool)
    held_out[_shuffled_by_class(parts[1]).cpu().numpy()[::_HELD_OUT]] = True
    penalty = _best_penalty(train, train_classes, held_out)
    probe = _fitted(_classifier(), train, train_classes, penalty)
    return {
        "linear_probe_accuracy": float((probe.predict(test) == test_classes).mean()),
        "linear_probe_penalty": penalty,
    }


def need_scikit_learn(what: str = "the linear probe") -> None:
    """Refuse what needs scikit-learn where that is not installed.

    Args:
        what: the one that needs it.

    Raises:
        ValueError: says what to install.
    """
    if find_spec("sklearn") is None:
        raise ValueError(f"{what} needs scikit-learn: pip install 'hf-encoders[evaluation]'")


def _best_penalty(rows: Vectors, classes: Indices, held_out: Mask) -> float:
    """The largest of the penalties with which most held-out rows are right."""
    fitted = ~held_out
    if len(np.unique(classes[fitted])) < 2:
        return PENALTIES[0]
    best, penalty = -1.0, PENALTIES[0]
    probe = _classifier()
    for candidate in PENALTIES:
        # From strong to weak. Each fit starts where the last one ended, which is quicker than from zero.
        _fitted(probe, rows[fitted], classes[fitted], candidate)
        accuracy = float((probe.predict(rows[held_out]) == classes[held_out]).mean())
        if accuracy > best:
            best, penalty = accuracy, candidate
    return penalty


def _classifier() -> "LogisticRegression":
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(warm_start=True, max_iter=_ITERATIONS)


def _fitted(probe: "LogisticRegression", rows: Vectors, classes: Indices, penalty: float) -> "LogisticRegression":
    probe.set_params(C=1 / (penalty * len(rows)))
    with warnings.catch_warnings():
        # The weakest penalties separate the classes ever further, and are hardly ever chosen. Classes of few rows are
        # no mistake.
        warnings.simplefilter("ignore", UserWarning)
        return probe.fit(rows, classes)


def _data(
    train_embeds: Numbers, train_labels: Items, test_embeds: Numbers, test_labels: Items
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Checked embeddings and class numbers of both parts; -1 for a test label that train does not have."""
    train, test = finite_rows(train_embeds, "train"), finite_rows(test_embeds, "test")
    check_dimensions(train, test, ("train", "test"))
    train_list = listed(train_labels, len(train), "train labels")
    test_list = listed(test_labels, len(test), "test labels")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(train_list))}
    train_classes = torch.tensor([numbers[label] for label in train_list], device=train.device)
    test_classes = torch.tensor([numbers.get(label, -1) for label in test_list], device=train.device)
    if not (test_classes >= 0).any():
        raise ValueError(f"test labels: none of them is a label of train (such as {test_list[0]!r}, {train_list[0]!r})")
    return train, train_classes, test.to(train.device), test_classes


def _shuffled_by_class(classes: Tensor) -> Tensor:
    """The row numbers, class by class, in a fixed random order within each."""
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0)).to(classes.device)
    return order[classes[order].argsort(stable=True)]
