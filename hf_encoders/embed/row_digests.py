"""What tells the rows of a table apart: 64 bits of their names and of the states of what they are read from."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import xxhash
from accelerate.utils import gather_object
from numpy.typing import NDArray

from ..arrays import Mask
from ..data.layout import Part
from ..data.parts import Collection
from .rows import RowEmbedder

# [N]. Of 10^7 rows two have the same with a probability of 3 in a million.
Digests: TypeAlias = NDArray[np.int64]
Names: TypeAlias = pa.Array | pa.ChunkedArray

NONE: Digests = np.empty(0, np.int64)


def names_of(embedder: RowEmbedder, collection: Collection, part: Part) -> Iterator[Names]:
    """The names of the rows of a part, in order. No more than needed is read."""
    if part.count is not None and embedder.id_column is None:
        yield collection.ids(part, 0, part.count)
        return
    start = 0
    for table in collection.tables(part, 0, [embedder.id_column or collection.column]):
        yield embedder.ids(table, part, start)
        start += len(table)


def digests_of(collection: Collection, part: Part, start: int, names: Names) -> Digests:
    """Digest rows of a part.

    Args:
        collection: knows their states.
        part: their part.
        start: the first of them in it.
        names: [N].

    Returns:
        [N].
    """
    states = collection.row_states(part, start, len(names))
    pairs = zip(names.to_pylist(), states, strict=True)
    numbers = (xxhash.xxh3_64_intdigest(f"{name}\0{state}".encode(errors="surrogateescape")) for name, state in pairs)
    return np.fromiter(numbers, np.uint64, len(names)).view(np.int64)


def are_in(digests: Digests, known: Digests) -> Mask:
    """Which digests are among some that are sorted; in time that hardly grows with these."""
    if not len(known):
        return np.zeros(len(digests), bool)
    places = np.searchsorted(known, digests)
    found: Mask = known[np.minimum(places, len(known) - 1)] == digests
    return found


def gathered(digests: Iterable[Digests]) -> Digests:
    """Those of all processes, each once, sorted."""
    return np.unique(np.concatenate([NONE, *gather_object([np.concatenate([NONE, *digests])])]))
