"""Embeds a collection into a folder of shards, on any number of processes, and goes on after a kill."""

import collections
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa  # type: ignore[import-untyped]
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.std import tqdm

from ..data.layout import Growth, Part
from ..data.parts import Collection
from ..models.text_tower import Truncation
from ..progress.bars import progress_bar
from .folder import MANIFEST, FolderManifest, Plan
from .growth import start_or_follow
from .manifest import check_bad_rows, write_manifest
from .rows import EmbeddedRows, RowEmbedder
from .shards import ShardRecord, is_whole, read_records, remove_shard, write_shard

_TABLES_AHEAD = 2
UNITS = {"text": " texts", "image": " images", "depth": " maps"}
# Part → number of the shard in it → its record.
_Records: TypeAlias = dict[int, dict[int, ShardRecord]]


def embed_collection(
    embedder: RowEmbedder,
    collection: Collection,
    output: Path,
    plan: Plan,
    *,
    processes: PartialState,
    max_bad_rows: int | None = None,
) -> "EmbeddedFolder | None":
    """Embed all rows that are not embedded yet. Every process calls this, and embeds its share of the shards.

    The rows of a shard (`shard_rows` in the plan) do not depend on the number of processes: a run goes on with another
    number, and with the same batch size its result is the same, bit for bit. Input rows of a finished shard are not
    read again, except in a part of a stream that was not finished. A shard whose input files have changed since, by
    size or time, is embedded again.

    The folder follows a collection whose files come and go: rows of new files are embedded into shards of their own,
    which come after the others, and a shard that lost files is embedded again without them. So rows are in the order in
    which they became known, and not in that of a new folder.

    Args:
        embedder: makes rows of the result.
        collection: what is embedded.
        output: a new folder, or one that a run with the same plan wrote or began; all processes see it.
        plan: what the result depends on, see `make_plan`.
        processes: this process and their number.
        max_bad_rows: stop when more rows cannot be embedded: at once in one process, at the end in all of them.

    Returns:
        What was done, in the main process; None in the others.

    Raises:
        ValueError: if a run with another plan was started there, or with data of which nothing is left; or there are
            too many bad rows.
        OSError: if the output cannot be written, or is something else.
    """
    shard_rows = plan["shard_rows"]
    work = take_up(output, plan, collection, processes)
    records = work.records
    # Unfinished parts come first, so that each process has the same share of the work. `split_dataset_by_node` would
    # divide rows, and make other shards with another number of processes.
    ordered = sorted(work.parts, key=lambda part: _is_finished(records[part.index]))
    own = ordered[processes.process_index :: processes.num_processes]
    title = "Embedding" if processes.num_processes == 1 else f"Embedding (process 1 of {processes.num_processes})"
    with progress_bar(
        _count([part for part in own if not _is_finished(records[part.index])]),
        title,
        UNITS[plan["modality"]],
        is_shown=processes.is_main_process,
    ) as bar:
        share = _Share(embedder, collection, output, shard_rows, max_bad_rows, records, work.changed, bar)
        for part in own:
            share.embed(part)
    processes.wait_for_everyone()
    warn_of_cut_texts(share.cut, processes)
    manifest = write_manifest(output, plan, read_records(output), max_bad_rows) if processes.is_main_process else None
    processes.wait_for_everyone()
    return manifest and work.result(manifest)


def warn_of_cut_texts(own: Truncation, processes: PartialState) -> None:
    """Warn once of the texts that this run cut, in all processes."""
    total = Truncation()
    for cut in gather_object([own]):
        total.add(cut)
    if processes.is_main_process:
        total.warn()


@dataclass(frozen=True)
class Work:
    """What there is to do in an output folder.

    Args:
        parts: those that have rows.
        records: part → number of the shard in it → its record, of shards that are good still.
        changed: the records of shards that are embedded again.
        growth: how the collection has grown.
    """

    parts: Sequence[Part]
    records: _Records
    changed: Sequence[ShardRecord]
    growth: Growth

    def result(self, manifest: FolderManifest) -> "EmbeddedFolder":
        """What became of it."""
        counts = {part.index: part.count for part in self.parts}
        before = [(record.rows + record.bad_count, counts[record.part]) for record in self.changed]
        # Without rows that are gone, where that is known.
        again = sum(rows if count is None else min(rows, count) for rows, count in before)
        return EmbeddedFolder(manifest, self.growth.changed_rows + again, self.growth)


def take_up(output: Path, plan: Plan, collection: Collection, processes: PartialState | None = None) -> Work:
    """Start an output folder, or go on in it: see what is there, and take out what the collection has no more.

    Args:
        output: the folder.
        plan: see `make_plan`.
        collection: what is embedded; from now on it is read in the order that the folder knows.
        processes: this process and their number, all of which call this; by default there is one.

    Raises:
        ValueError: see `start_or_follow`.
        OSError: if the output cannot be written, or is something else.
    """
    is_main = processes is None or processes.is_main_process
    with nullcontext() if processes is None else processes.main_process_first():
        growth = start_or_follow(output, plan, collection, is_main)
    all_parts = collection.parts(plan["shard_rows"])
    parts = [part for part in all_parts if part.count != 0] or all_parts[:1]  # whose shard has no rows, but the columns
    records, changed, gone = _read_records(output, collection, parts, plan["shard_rows"])
    if processes is not None:
        processes.wait_for_everyone()  # before any of them writes more records
    if is_main:
        if changed or gone:  # what the manifest tells of is there no longer
            (output / MANIFEST).unlink(missing_ok=True)
        for record in gone:
            remove_shard(output, record)
    return Work(parts, records, changed, growth)


def _read_records(
    output: Path, collection: Collection, parts: Sequence[Part], shard_rows: int
) -> tuple[_Records, list[ShardRecord], list[ShardRecord]]:
    """The records of shards that are good still, those whose input files have changed since, or are gone altogether."""
    by_index = {part.index: part for part in parts}
    good: _Records = collections.defaultdict(dict)
    changed, gone = [], []
    for record in read_records(output):
        part = by_index.get(record.part)
        if part is None:
            gone.append(record)
        elif record.inputs == collection.state(part, record.number * shard_rows, shard_rows):
            good[record.part][record.number] = record
        else:
            changed.append(record)
    return good, changed, gone


@dataclass(frozen=True)
class EmbeddedFolder:
    """What became of a collection.

    Args:
        manifest: see `write_manifest`.
        changed_rows: input rows that were embedded before, and again now, because files of their shards had changed or
            were gone.
        growth: the rows of files that came or went.
    """

    manifest: FolderManifest
    changed_rows: int
    growth: Growth


class _Share:
    """The parts of one process.

    Attributes:
        cut: the texts that were cut.
    """

    def __init__(
        self,
        embedder: RowEmbedder,
        collection: Collection,
        output: Path,
        shard_rows: int,
        max_bad_rows: int | None,
        records: _Records,
        changed: Sequence[ShardRecord],
        bar: tqdm,
    ):
        self._embedder = embedder
        self._collection = collection
        self._output = output
        self._shard_rows = shard_rows
        self._max_bad_rows = max_bad_rows
        self._records, self._changed = records, changed
        self._bar = bar
        self.cut = Truncation()
        self._bad_count = sum(record.bad_count for own in records.values() for record in own.values())

    def embed(self, part: Part) -> None:
        """Write the shards of a part that are missing or damaged."""
        written = self._records[part.index].items()
        whole = {number: record for number, record in written if is_whole(self._output, record)}
        first = next(number for number in range(len(whole) + 1) if number not in whole)
        if first and whole[first - 1].is_last:
            return
        rows = _RowReader(_ahead(self._collection.tables(part, first * self._shard_rows, self._embedder.columns)))
        for number in itertools.count(first):
            # Before the rows are embedded: a file that changes meanwhile is embedded again by the next run.
            state = self._collection.state(part, number * self._shard_rows, self._shard_rows)
            blocks = rows.blocks(self._shard_rows, self._embedder.rows_per_block)
            if number in whole:
                collections.deque(blocks, maxlen=0)
            else:
                content = self._embedded(part, number * self._shard_rows, blocks)
                schema = self._embedder.features.arrow_schema
                write_shard(self._output, schema, part.index, number, content, rows.are_read, state)
            if rows.are_read():
                self._remove_after(part, number)
                return

    def _remove_after(self, part: Part, number: int) -> None:
        """Remove shards of rows that a changed file has no longer."""
        for record in self._changed:
            if record.part == part.index and record.number > number:
                remove_shard(self._output, record)

    def _embedded(self, part: Part, start: int, blocks: Iterator[pa.Table]) -> Iterator[EmbeddedRows]:
        for block in blocks:
            content = self._embedder(block, part, start)
            start += len(block)
            self._bad_count += content.bad_count
            self.cut.add(content.cut)
            if content.bad:
                name, reason = content.bad[0]
                check_bad_rows(self._bad_count, self._max_bad_rows, {"id": name, "reason": reason})
            yield content
            self._bar.update(len(block))


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


def _is_finished(records: dict[int, ShardRecord]) -> bool:
    return bool(records) and len(records) == max(records) + 1 and records[max(records)].is_last


def _count(parts: Sequence[Part]) -> int | None:
    counts = [part.count for part in parts]
    return None if None in counts else sum(count for count in counts if count is not None)
