"""The rows that are found: as the data set decodes them, or undecoded where a picture is broken."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from ..arrays import AnyArray
from ..data.cells import undecoded


def positions_of(count: int, skipped: Sequence[int]) -> Sequence[int] | AnyArray:
    """The positions in the data set of the rows that are indexed.

    Args:
        count: how many are.
        skipped: positions of those that are not.
    """
    if not skipped:
        return range(count)
    return np.delete(np.arange(count + len(skipped)), skipped)


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
