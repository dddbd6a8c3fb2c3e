"""Which class is taken for which: confusion matrices, of single classes and of groups of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .probes import need_scikit_learn
from .tasks import Answers, Label

# Group of each class: the category of a noun, for example.
Groups = Mapping[Label, Label]


@dataclass(frozen=True)
class Confusion:
    """How often each class is taken for each.

    Args:
        classes: C labels.
        counts: [C, C]: the rows are the right classes, the columns the answers.
    """

    classes: list[Label]
    counts: NDArray[np.int64]

    @property
    def right(self) -> int:
        """The number of right answers."""
        return int(np.trace(self.counts))

    @property
    def total(self) -> int:
        """The number of answers."""
        return int(self.counts.sum())

    def most_confused(self, count: int) -> list[tuple[Label, Label, int]]:
        """The most frequent mistakes: right class, answer, how often; at most `count`, the most frequent first."""
        wrong = self.counts * ~np.eye(len(self.classes), dtype=bool)
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        places = zip(*np.unravel_index(order, wrong.shape), strict=True)
        return [(self.classes[row], self.classes[column], int(wrong[row, column]))
                for row, column in places if wrong[row, column]]  # fmt: skip

    def taken(self, order: Sequence[int]) -> "Confusion":
        """Some of the classes, in this order; answers from and to the others are left out."""
        return Confusion([self.classes[place] for place in order], self.counts[np.ix_(order, order)])


def confusion(right: Sequence[Label], given: Sequence[Label], classes: Sequence[Label]) -> Confusion:
    """Count which class is taken for which, by scikit-learn's `confusion_matrix`.

    Args:
        right: N labels.
        given: N answers.
        classes: all labels.

    Raises:
        ValueError: if scikit-learn is missing.
    """
    need_scikit_learn("a confusion matrix")
    from sklearn.metrics import confusion_matrix

    numbers = {label: number for number, label in enumerate(classes)}
    sides = [[numbers[label] for label in side] for side in (right, given)]
    return Confusion(list(classes), confusion_matrix(*sides, labels=range(len(classes))).astype(np.int64))


def confusion_of_groups(answers: Answers, groups: Groups) -> Confusion:
    """Count which group of classes is taken for which: a noun that is taken for another of its category is right.

    Args:
        answers: of single classes.
        groups: the group of each class; see `groups_of`. A class without one is a group of its own.
    """
    right, given = ([groups.get(label, label) for label in side] for side in (answers.right, answers.given))
    return confusion(right, given, sorted({*groups.values(), *given}, key=str))


def groups_of(classes: Sequence[Label], groups: Sequence[Label]) -> dict[Label, Label]:
    """The group of each class: that of most of its rows, the first one where two have as many.

    Args:
        classes: N labels.
        groups: N groups, in the same order of rows.
    """
    counts: dict[Label, Counter[Label]] = {}
    for label, group in zip(classes, groups, strict=True):
        counts.setdefault(label, Counter())[group] += 1
    return {label: max(sorted(found, key=str), key=found.__getitem__) for label, found in counts.items()}


def readable_order(found: Confusion, groups: Groups | None = None) -> list[int]:
    """An order of the classes in which those that are often confused are neighbours, so that mistakes form blocks.

    Classes that are numbers keep their order. Classes that no row has and that nothing is taken for are left out.

    Args:
        found: of at least one answer.
        groups: keep the classes of a group together, group by group in alphabetical order.

    Returns:
        Places in `found.classes`.
    """
    used = np.flatnonzero(found.counts.any(0) | found.counts.any(1))
    order = (
        used
        if all(isinstance(label, int) for label in found.classes)
        else used[_leaves(found.counts[np.ix_(used, used)])]
    )
    places = [int(place) for place in order]
    if groups is not None:
        places.sort(
            key=lambda place: str(groups.get(found.classes[place], found.classes[place]))
        )  # stable: neighbours stay so within a group
    return places


def _leaves(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order of the leaves of a tree in which what is confused most is joined first."""
    if len(counts) < 3:
        return np.arange(len(counts))
    from scipy.cluster.hierarchy import leaves_list, linkage  # scikit-learn needs SciPy
    from scipy.spatial.distance import squareform

    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return np.asarray(leaves_list(tree), np.int64)
