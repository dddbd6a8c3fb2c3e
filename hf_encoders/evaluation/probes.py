"""Probing classifiers on frozen embeddings: nearest neighbours and a linear probe.

Both work on the device of the train embeddings. The test part never chooses anything.
"""

import torch
from torch import Tensor, nn

from ..arrays import Numbers
from ..top_k import top_k
from .checks import Items, check_dimensions, check_positive, finite_rows, listed

# From strong to weak, the square root of ten apart: the accuracy is flat around its best.
PENALTIES = tuple(10 ** (-exponent / 2) for exponent in range(-2, 11))
_HELD_OUT = 5  # every fifth row of a class


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
    """Accuracy of multinomial logistic regression on frozen embeddings.

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
        ValueError: if a side is empty or not finite, lengths or dimensions differ, or train has one class only.
    """
    train, train_classes, test, test_classes = _data(train_embeds, train_labels, test_embeds, test_labels)
    if not train_classes.any():
        raise ValueError("train labels: one class only, expected at least two")
    deviation, mean = torch.std_mean(train, dim=0, correction=0)
    # A constant feature says nothing, and must not be divided by its rounding error.
    deviation = deviation.where(deviation > 1e-6 * mean.abs(), torch.inf)
    train, test = (train - mean) / deviation, (test - mean) / deviation

    held_out = torch.zeros(len(train), dtype=torch.bool, device=train.device)
    held_out[_shuffled_by_class(train_classes)[::_HELD_OUT]] = True
    best, penalty = -1.0, 0.0
    probe = _linear(train, train_classes)
    for candidate in PENALTIES:
        # From strong to weak. Each fit starts where the last one ended, which is quicker than from zero.
        _fit(probe, train[~held_out], train_classes[~held_out], candidate)
        accuracy = _accuracy(probe, train[held_out], train_classes[held_out])
        if accuracy > best:
            best, penalty = accuracy, candidate

    probe = _linear(train, train_classes)
    _fit(probe, train, train_classes, penalty)
    return {"linear_probe_accuracy": _accuracy(probe, test, test_classes), "linear_probe_penalty": penalty}


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


def _linear(features: Tensor, classes: Tensor) -> nn.Linear:
    """A linear layer of zeros, from the features to the classes."""
    probe = nn.Linear(features.shape[1], int(classes.max()) + 1, device=features.device)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    return probe


@torch.enable_grad()
def _fit(probe: nn.Linear, features: Tensor, classes: Tensor, penalty: float) -> None:
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=300, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(probe(features), classes) + penalty / 2 * probe.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


@torch.no_grad()
def _accuracy(probe: nn.Linear, features: Tensor, classes: Tensor) -> float:
    return float((probe(features).argmax(1) == classes).double().mean())
