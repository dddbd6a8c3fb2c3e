"""Embeds a collection into a folder of shards, on any number of processes of a machine, and goes on after a kill."""

import collections
import itertools
from collections.abc import Container, Iterator, Mapping, Sequence

import pyarrow as pa  # type: ignore[import-untyped]
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.std import tqdm

from ..data.layout import Part
from ..data.parts import Collection
from ..data.remote_path import Place
from ..models.text_tower import Truncation
from ..progress.bars import progress_bar
from .folder import Plan
from .manifest import check_bad_rows, write_manifest
from .reading import read_shards
from .rows import EmbeddedRows, RowEmbedder
from .shards import ShardRecord, is_whole, read_records, remove_shard, write_shard
from .work import EmbeddedFolder, Records, take_up

UNITS = {"text": " texts", "image": " images", "depth": " maps"}


def embed_collection(
    embedder: RowEmbedder,
    collection: Collection,
    output: Place,
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
        output: a new folder, or one that a run with the same plan wrote or began; all processes see it. Or its URL.
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
    ordered = sorted(work.parts, key=lambda part: is_finished(records[part.index]))
    own = ordered[processes.process_index :: processes.num_processes]
    title = "Embedding" if processes.num_processes == 1 else f"Embedding (process 1 of {processes.num_processes})"
    with progress_bar(
        count_rows([part for part in own if not is_finished(records[part.index])]),
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


class _Share:
    """The parts of one process.

    Attributes:
        cut: the texts that were cut.
    """

    def __init__(
        self,
        embedder: RowEmbedder,
        collection: Collection,
        output: Place,
        shard_rows: int,
        max_bad_rows: int | None,
        records: Records,
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
        done = whole_shards(self._output, self._records[part.index])
        if done is None:
            return
        embedder = self._embedder
        sizes = self._shard_rows, embedder.rows_per_block
        for shard in read_shards(self._collection, part, first_missing(done), embedder.columns, *sizes):
            if shard.number in done:
                collections.deque(shard.blocks, maxlen=0)
            else:
                content = self._embedded(part, shard.number * self._shard_rows, shard.blocks)
                schema = embedder.features.arrow_schema
                write_shard(self._output, schema, part.index, shard.number, content, shard.is_last, shard.state)
            if shard.is_last():
                remove_after(self._output, self._changed, part.index, shard.number)

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


def whole_shards(output: Place, records: Mapping[int, ShardRecord]) -> frozenset[int] | None:
    """The numbers of the shards of a part that are whole; None if none of the part is missing."""
    whole = {number: record for number, record in records.items() if is_whole(output, record)}
    first = first_missing(whole)
    return None if first and whole[first - 1].is_last else frozenset(whole)


def first_missing(whole: Container[int]) -> int:
    """The first shard of a part that is not whole; it is read from there."""
    return next(number for number in itertools.count() if number not in whole)


def remove_after(output: Place, changed: Sequence[ShardRecord], part: int, number: int) -> None:
    """Remove the shards of a part behind its last one: of rows that a changed file has no longer."""
    for record in changed:
        if record.part == part and record.number > number:
            remove_shard(output, record)


def is_finished(records: Mapping[int, ShardRecord]) -> bool:
    """Whether a part has a record of each shard."""
    return bool(records) and len(records) == max(records) + 1 and records[max(records)].is_last


def count_rows(parts: Sequence[Part]) -> int | None:
    """The rows of parts; None where nobody knows."""
    counts = [part.count for part in parts]
    return None if None in counts else sum(count for count in counts if count is not None)
