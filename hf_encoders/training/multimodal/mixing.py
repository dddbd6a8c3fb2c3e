"""Which rows an epoch takes of several data sets, each with a share of its own."""

import math
from collections.abc import Sequence

import numpy as np


class Mixture:
    """An epoch of as many rows as all data sets have together, divided by shares.

    A data set that has more rows than its share gives another part in each epoch, until all have been taken; one that
    has fewer gives some or all of them several times. All of it follows from the seed, the epoch and the place.

    Args:
        sizes: the rows of each data set, which lie one after the other.
        weights: of each data set; its share is its weight, divided by the sum of all.
        seed: decides on the order in which parts are taken.

    Raises:
        ValueError: if there is not one weight per data set, or one is negative or no number, or all are zero.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int):
        check_weights(weights, len(sizes))
        total, shares = sum(sizes), np.array(weights) / sum(weights)
        # Cumulated and rounded, so that the parts add up to the whole.
        ends = np.round(np.cumsum(shares) * total).astype(int)
        self._ends = ends
        self._counts = np.diff(ends, prepend=0)
        self._starts = np.cumsum([0, *sizes[:-1]])
        self._orders = [
            np.random.default_rng([seed, number]).permutation(size) if size else np.zeros(0, int)
            for number, size in enumerate(sizes)
        ]
        for number, (count, size) in enumerate(zip(self._counts, sizes, strict=True)):
            if count and not size:
                raise ValueError(f"data set {number + 1} has no rows, and a weight of {weights[number]}")

    def __len__(self) -> int:
        return int(self._ends[-1])

    def row(self, place: int, epoch: int) -> int:
        """The row at a place of an epoch, counted over all data sets."""
        number = int(np.searchsorted(self._ends, place, side="right"))
        count, order = int(self._counts[number]), self._orders[number]
        within = place - (int(self._ends[number]) - count)
        return int(self._starts[number] + order[(epoch * count + within) % len(order)])

    def lines(self, names: Sequence[str]) -> str:
        """How many rows an epoch takes of each data set, for people."""
        parts = zip(names, self._counts, self._orders, strict=True)
        return ", ".join(f"{count} of {name}, which has {len(order)}" for name, count, order in parts)


def check_weights(weights: Sequence[float], count: int) -> None:
    """Raise ValueError unless there is one weight for each of `count` data sets."""
    if len(weights) != count:
        raise ValueError(f"--dataset_weights: {len(weights)} for {count} data sets; give one for each")
    if not all(map(math.isfinite, weights)) or min(weights) < 0 or not sum(weights):
        raise ValueError(f"--dataset_weights {' '.join(map(str, weights))}: give numbers of 0 and more, not all 0")
