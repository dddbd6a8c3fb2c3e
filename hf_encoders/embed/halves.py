"""Embedding in two halves, which may run in two processes: what decodes pictures, and the network.

    rows ── prepared ──> Block, Batch, ... ── computed ──> Block, Embedded, ... ── Gathered ──> EmbeddedRows
            on CPUs      tensors              the network

The batches are those of `ArrowEmbedder.embed`, so the embeddings are the same, bit for bit.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..arrays import Vectors
from ..data.layout import Part
from ..data.skipped import reason_of
from ..image_sizes import SizedImageTower
from ..models.depth_units import DepthUnits
from ..models.input_batches import Skipped
from ..models.pixel_towers import DepthTower, ImageTower
from ..models.text_tower import Truncation
from ..models.tower import Tower
from .rows import LISTED, EmbeddedRows, RowEmbedder

# Towers whose `encode` takes what their processor made. Texts travel as they are: tokens are made quickly.
_DIVIDED = (ImageTower, SizedImageTower, DepthTower)
_UNITS = frozenset(DepthUnits.__annotations__)


class Block(NamedTuple):
    """What is known of a block of rows beside their embeddings.

    Args:
        shard: the numbers of its part and of the shard in it.
        number: which of the shard's blocks it is.
        rows: how many it has.
        ids: the names of its rows, [rows].
        others: the columns that are kept.
        batches: how many batches its rows are in.
    """

    shard: tuple[int, int]
    number: int
    rows: int
    ids: pa.Array
    others: pa.Table
    batches: int


class Batch(NamedTuple):
    """Rows on their way to the network.

    Args:
        shard: see `Block`.
        block: the number of their block.
        number: which of its batches they are.
        rows: their numbers in the block.
        inputs: what a processor made of them, by name; or a table of raw inputs.
        bad: the rows that it could not read → why; only the first have a reason.
    """

    shard: tuple[int, int]
    block: int
    number: int
    rows: list[int]
    inputs: dict[str, NDArray[Any]] | pa.Table
    bad: dict[int, str]


class Embedded(NamedTuple):
    """Rows on their way to the result.

    Args:
        shard: see `Batch`.
        block: likewise.
        number: likewise.
        rows: the numbers of those that have an embedding.
        vectors: their embeddings [N, D].
        bad: the others → why.
        cut: the texts that were cut.
    """

    shard: tuple[int, int]
    block: int
    number: int
    rows: list[int]
    vectors: Vectors
    bad: dict[int, str]
    cut: Truncation


def prepared(
    embedder: RowEmbedder, table: pa.Table, part: Part, shard: int, number: int, start: int, size: int
) -> Iterator[Block | Batch]:
    """Prepare a block. It needs no weights.

    Args:
        embedder: makes rows of the result.
        table: the rows of the block.
        part: their part.
        shard: the number of their shard.
        number: that of the block.
        start: the number of rows of the part before them.
        size: the most pictures in a batch.
    """
    place = part.index, shard
    ids, others = embedder.ids(table, part, start), table.select(embedder.kept)
    arrow = embedder.embedder
    tower = arrow.tower
    if type(tower) not in _DIVIDED:
        yield Block(place, number, len(table), ids, others, 1)
        yield Batch(place, number, 0, list(range(len(table))), table.select([arrow.column]), {})
        return
    starts = range(0, len(table), size)
    yield Block(place, number, len(table), ids, others, len(starts))
    if isinstance(tower, DepthTower):
        tower = tower.with_units(_units(arrow.options))
    items = arrow.items(table)
    listed = 0
    for index, first in enumerate(starts):
        skipped = Skipped()
        rows: list[int] = []
        tensors: dict[str, NDArray[Any]] = {}
        for indices, batch in tower.batches(list(items[first : first + size]), size, skipped):
            rows = [first + row for row in indices]
            tensors = {name: tensor.numpy() for name, tensor in batch.items()}
        bad = {}
        for row in sorted(skipped):
            bad[first + row] = _why(tower, arrow.items(table.slice(first + row, 1)), size) if listed < LISTED else ""
            listed += 1
        yield Batch(place, number, index, rows, tensors, bad)
    if isinstance(tower, DepthTower):
        tower.finish()


def computed(embedder: RowEmbedder, batch: Batch) -> Embedded:
    """Embed what was prepared."""
    arrow = embedder.embedder
    cut = Truncation()
    if isinstance(batch.inputs, pa.Table):
        vectors, kept = arrow.embed(batch.inputs, cut)
        reasons = {row: embedder.reason(batch.inputs, row) for row in np.flatnonzero(~kept)[:LISTED].tolist()}
    elif batch.rows:
        vectors, kept = _encode(arrow.tower, batch.inputs, arrow.options)
        reasons = {}
        for row in np.flatnonzero(~kept).tolist():
            one = {name: tensor[row : row + 1] for name, tensor in batch.inputs.items()}
            raising = {**arrow.options, "on_error": "raise"}
            reasons[row] = _reason(partial(_encode, arrow.tower, one, raising))
    else:
        vectors, kept, reasons = np.empty((0, embedder.dimensions), np.float32), np.ones(0, bool), {}
    bad = {batch.rows[row]: reasons.get(row, "") for row in np.flatnonzero(~kept).tolist()}
    rows = [row for row, is_kept in zip(batch.rows, kept, strict=True) if is_kept]
    return Embedded(batch.shard, batch.block, batch.number, rows, vectors, batch.bad | bad, cut)


class GatheredBlock:
    """The messages about a block, in any order, as often as they come."""

    def __init__(self) -> None:
        self.block: Block | None = None
        self.parts: dict[int, Embedded] = {}

    def take(self, message: Block | Embedded) -> None:
        """Note a message."""
        if isinstance(message, Block):
            self.block = message
        else:
            self.parts[message.number] = message

    @property
    def is_whole(self) -> bool:
        """Whether all are there."""
        return self.block is not None and len(self.parts) == self.block.batches

    def joined(self, embedder: RowEmbedder) -> EmbeddedRows:
        """The rows of the result."""
        assert self.block is not None
        block = self.block
        parts = [self.parts[number] for number in sorted(self.parts)]
        bad = {row: reason for part in parts for row, reason in part.bad.items()}
        kept = np.ones(block.rows, bool)
        kept[list(bad)] = False
        cut = Truncation()
        for part in parts:
            cut.add(part.cut)
        if cut.count:
            cut.name = str(block.ids[cut.first].as_py())
        vectors = np.concatenate([part.vectors for part in parts])
        return embedder.joined(block.ids, block.others, vectors, kept, bad, cut)


def _encode(tower: Tower[Any], tensors: dict[str, NDArray[Any]], options: Mapping[str, Any]) -> Any:
    """What went through the processor → its embeddings, as `Tower.encode`; the processor has used the units."""
    return tower.encode(tensors, **{name: value for name, value in options.items() if name not in _UNITS})


def _units(options: Mapping[str, Any]) -> DepthUnits:
    given = {name: options[name] for name in _UNITS if options.get(name) is not None}
    return cast(DepthUnits, given)


def _why(tower: Tower[Any], items: object, size: int) -> str:
    """Why an input alone cannot be prepared."""
    return _reason(lambda: list(tower.batches(items, size)))


def _reason(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except (ValueError, TypeError) as error:
        return reason_of(error)
    return "cannot be read"  # at the second attempt it could
