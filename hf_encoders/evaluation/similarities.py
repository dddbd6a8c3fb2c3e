"""The similarities of some queries of a split with the candidates beside them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays import Indices
from .checks import normalized_rows
from .embedded_columns import EmbeddedColumns

_Cosines: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Similarities:
    """Cosines of the same rows in two modalities.

    Args:
        query: the modality of the queries.
        found: that of the candidates.
        rows: [N], their numbers in the split.
        names: [N], the queries: captions, or "row 3".
        cosines: [N, N], a row per query, a column per candidate.
        right: [N, N], whether a candidate belongs to a query: it is of the same row, or of one with its caption.
    """

    query: str
    found: str
    rows: list[int]
    names: list[str]
    cosines: _Cosines
    right: NDArray[np.bool_]

    def wrong(self) -> list[tuple[int, int]]:
        """Place of a query and of its most similar candidate, where that is a wrong one."""
        best = self.cosines.argmax(axis=1).tolist()
        return [(row, column) for row, column in enumerate(best) if not self.right[row, column]]

    def means(self) -> tuple[float, float]:
        """The mean cosine of pairs that belong together, and of the others; of none it is NaN."""
        right, others = self.cosines[self.right], self.cosines[~self.right]
        return float(right.mean()), float(others.mean()) if len(others) else float("nan")


def similarities(embedded: EmbeddedColumns, count: int) -> list[Similarities]:
    """The similarities of each two modalities, texts first.

    Args:
        embedded: a split.
        count: how many rows, taken from the first to the last in equal steps. Of several captions of a row, the first.
    """
    return [_similarities(embedded, *pair, count) for pair in itertools.combinations(embedded.embeds, 2)]


def _similarities(embedded: EmbeddedColumns, query: str, found: str, count: int) -> Similarities:
    owners = embedded.owners[query], embedded.owners[found]
    both = np.intersect1d(*owners)
    rows = both[np.linspace(0, len(both) - 1, min(count, len(both))).round().astype(int)]
    places = [np.searchsorted(own, rows) for own in owners]  # the first embedding of each row
    first, second = (
        normalized_rows(embedded.embeds[name], name)[place].cpu()
        for name, place in zip((query, found), places, strict=True)
    )
    right = np.eye(len(rows), dtype=bool)
    names = [f"row {row}" for row in rows.tolist()]
    if query == "text":
        names = [embedded.captions[place] for place in places[0].tolist()]
        right |= _same_captions(names, _captions(embedded, owners[0], rows))
    return Similarities(query, found, rows.tolist(), names, (first @ second.T).numpy(), right)


def _captions(embedded: EmbeddedColumns, owners: Indices, rows: Indices) -> list[set[str]]:
    """All captions of each row."""
    ends = zip(np.searchsorted(owners, rows), np.searchsorted(owners, rows, side="right"), strict=True)
    return [set(embedded.captions[start:end]) for start, end in ends]


def _same_captions(captions: Sequence[str], of_rows: Sequence[set[str]]) -> NDArray[np.bool_]:
    return np.array([[caption in those for those in of_rows] for caption in captions], dtype=bool)
