"""The rows that are found: as the data set decodes them, or undecoded where a picture is broken."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from ..arrays import AnyArray, Indices, Vectors
from ..data.cells import undecoded
from .queries import SearchResult


def positions_of(count: int, skipped: Sequence[int]) -> Sequence[int] | AnyArray:
    """The positions in the data set of the rows that are indexed.

    Args:
        count: how many are.
        skipped: positions of those that are not.
    """
    if not skipped:
        return range(count)
    return np.delete(np.arange(count + len(skipped)), skipped)


def hits(
    scores: Vectors, numbers: Indices, positions: Sequence[int] | AnyArray, rows: Dataset | None
) -> list[SearchResult]:
    """What a query found, best first.

    Args:
        scores: [k] cosines.
        numbers: [k] the rows' numbers in the index; -1 where nothing was found.
        positions: the numbers' positions in the data set; see `positions_of`.
        rows: the rows of the index, if it has any.
    """
    return [
        SearchResult(int(positions[number]), float(score), row_at(rows, int(number)))
        for score, number in zip(scores, numbers, strict=True)
        if number >= 0
    ]


def row_at(rows: Dataset | None, number: int) -> dict[str, Any]:
    """A row; empty without rows.

    A picture that cannot be decoded takes nothing from the hit: then the pictures of the row stay as they are stored,
    with `bytes` or `path`.
    """
    if rows is None:
        return {}
    try:
        row: dict[str, Any] = rows[number]
    except (OSError, SyntaxError, ValueError):  # what decoders raise
        row = undecoded(rows.select([number]))[0]
    return row
