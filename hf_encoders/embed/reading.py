"""Reads the rows of a part of a collection, shard by shard."""

import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]

from ..data.layout import Part
from ..data.parts import Collection

_TABLES_AHEAD = 2


class ReadShard(NamedTuple):
    """The rows of a shard, to be read before the next shard is asked for.

    Args:
        number: its place in the part.
        state: see `Collection.state`.
        blocks: its rows, in tables of whole batches.
        is_last: tells, once they are read, whether the part ends with them.
    """

    number: int
    state: str
    blocks: Iterator[pa.Table]
    is_last: Callable[[], bool]


def read_shards(
    collection: Collection, part: Part, first: int, columns: Sequence[str], shard_rows: int, rows_per_block: int
) -> Iterator[ReadShard]:
    """Read the shards of a part.

    Args:
        collection: what is read.
        part: of the collection.
        first: the number of the first shard that is read.
        columns: what is read of each row.
        shard_rows: rows in each shard but the last one.
        rows_per_block: rows in each block but the last one of a shard.

    Raises:
        ValueError: if something cannot be read.
    """
    rows = _RowReader(_ahead(collection.tables(part, first * shard_rows, columns)))
    for number in itertools.count(first):
        # Before the rows are read: a file that changes meanwhile is embedded again by the next run.
        state = collection.state(part, number * shard_rows, shard_rows)
        yield ReadShard(number, state, rows.blocks(shard_rows, rows_per_block), rows.are_read)
        if rows.are_read():
            return


class _RowReader:
    """Reads tables of any lengths as tables of given lengths."""

    def __init__(self, tables: Iterator[pa.Table]):
        self._tables = tables
        self._rest: pa.Table | None = None

    def blocks(self, rows: int, size: int) -> Iterator[pa.Table]:
        """Yield the next rows in tables of `size` rows; the last one may be shorter."""
        while rows and not self.are_read():
            pieces, missing = [], min(rows, size)
            while missing and not self.are_read():
                assert self._rest is not None
                pieces.append(self._rest.slice(0, missing))
                self._rest = self._rest.slice(missing)
                missing -= len(pieces[-1])
                rows -= len(pieces[-1])
            yield pa.concat_tables(pieces)

    def are_read(self) -> bool:
        """Whether all rows are read."""
        while self._rest is None or not len(self._rest):
            self._rest = next(self._tables, None)
            if self._rest is None:
                return True
        return False


def _ahead(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables, reading the next ones in a thread while one is embedded."""
    with ThreadPoolExecutor(1) as thread:
        waiting = collections.deque(thread.submit(next, tables, None) for _ in range(_TABLES_AHEAD))
        while (table := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, tables, None))
            yield table
