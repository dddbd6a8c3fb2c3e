"""The order in which a collection that grows is embedded: what is known keeps its place, what is new comes after."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """Rows that one process reads in order.

    Args:
        index: its place among the parts.
        start: the number of rows before it; 0 in a stream, where it is unknown.
        count: the number of its rows; None in a stream.
    """

    index: int
    start: int = 0
    count: int | None = None


@dataclass(frozen=True)
class Items:
    """What a collection consists of, such as files, in order.

    Args:
        names: each once.
        rows: how many rows each has.
    """

    names: Sequence[str]
    rows: Sequence[int]


@dataclass(frozen=True)
class Growth:
    """How a collection differs from what is known of it.

    Args:
        new_rows: rows of items that are new.
        removed_rows: rows of items that are gone.
        changed_rows: rows of items that have another number of rows than before, all of which are read again.
    """

    new_rows: int = 0
    removed_rows: int = 0
    changed_rows: int = 0

    def __bool__(self) -> bool:
        return bool(self.new_rows or self.removed_rows or self.changed_rows)


@dataclass(frozen=True)
class Layout:
    """Where each item has its place. Parts are ranges of places, so what comes or goes moves no other item to another.

    Args:
        names: the items in the order in which they became known; None at the place of one that is gone.
        rows: how many rows each has or had.
        starts: the first places of generations, which came together. A part ends with its generation.
    """

    names: Sequence[str | None]
    rows: Sequence[int]
    starts: Sequence[int]

    @classmethod
    def of(cls, items: Items) -> "Layout":
        """Items of which none is known yet."""
        return cls(items.names, items.rows, [0])

    @property
    def present(self) -> list[str]:
        """The items that are there, in order."""
        return [name for name in self.names if name is not None]

    def follow(self, items: Items) -> tuple["Layout", Growth]:
        """Give up the places of items that are gone, and places after all others to those that are new.

        An item with another number of rows than before is one that is gone, and one that is new.
        """
        now = dict(zip(items.names, items.rows, strict=True))
        before = list(zip(self.names, self.rows, strict=True))
        names = [name if name is not None and now.get(name) == rows else None for name, rows in before]
        gone = {name: rows for name, rows in before if name is not None and now.get(name) != rows}
        known = {name for name in names if name is not None}
        new = [name for name in items.names if name not in known]
        if not gone and not new:
            return self, Growth()
        growth = Growth(
            sum(now[name] for name in new if name not in gone),
            sum(rows for name, rows in gone.items() if name not in now),
            sum(now[name] for name in new if name in gone),
        )
        starts = [*self.starts, len(names)] if new else self.starts
        return Layout([*names, *new], [*self.rows, *(now[name] for name in new)], starts), growth

    def first_moved(self, items: Items) -> str | None:
        """The first item that is there still, and whose rows have other numbers in `items` than they had here."""
        before = [(name, rows) for name, rows in zip(self.names, self.rows, strict=True) if name is not None]
        had = dict(zip([name for name, _ in before], _starts([rows for _, rows in before]), strict=True))
        kept = dict(before)
        for name, rows, start in zip(items.names, items.rows, _starts(items.rows), strict=True):
            if kept.get(name) == rows and had[name] != start:
                return name
        return None

    def parts(self, shard_rows: int) -> list[Part]:
        """Divide each generation into ranges of places for at most `shard_rows` rows; those of a part are neighbours.

        A part whose items are all gone has no rows.
        """
        rows = np.asarray(self.rows, np.int64)
        is_present = np.asarray([name is not None for name in self.names], bool)
        ends = np.concatenate([[0], np.cumsum(rows)])
        present = np.concatenate([[0], np.cumsum(rows * is_present)])

        def present_before(place: int) -> int:
            """How many rows are there of the first so many, whether they are there or gone."""
            item = int(np.searchsorted(ends, place, side="right")) - 1
            inside = place - int(ends[item])
            return int(present[item]) + (inside if inside and is_present[item] else 0)

        ranges: list[tuple[int, int]] = []
        for first, last in itertools.pairwise([*self.starts, len(self.names)]):
            start, end = int(ends[first]), int(ends[last])
            ranges += [(place, min(place + shard_rows, end)) for place in range(start, end, shard_rows)]
        counted = [(present_before(start), present_before(end)) for start, end in ranges or [(0, 0)]]
        return [Part(index, start, end - start) for index, (start, end) in enumerate(counted)]


def _starts(rows: Sequence[int]) -> list[int]:
    return [0, *itertools.accumulate(rows)][: len(rows)]
