"""What there is to do in an output folder: what is there, what has changed since, and what the data have no more."""

import collections
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeAlias

from accelerate import PartialState

from ..data.layout import Growth, Part
from ..data.parts import Collection
from ..data.remote_path import Place
from .folder import MANIFEST, FolderManifest, Plan
from .growth import start_or_follow
from .shards import ShardRecord, read_records, remove_shard

# Part → number of the shard in it → its record.
Records: TypeAlias = dict[int, dict[int, ShardRecord]]


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
    records: Records
    changed: Sequence[ShardRecord]
    growth: Growth

    def result(self, manifest: FolderManifest) -> EmbeddedFolder:
        """What became of it."""
        counts = {part.index: part.count for part in self.parts}
        before = [(record.rows + record.bad_count, counts[record.part]) for record in self.changed]
        # Without rows that are gone, where that is known.
        again = sum(rows if count is None else min(rows, count) for rows, count in before)
        return EmbeddedFolder(manifest, self.growth.changed_rows + again, self.growth)


def take_up(output: Place, plan: Plan, collection: Collection, processes: PartialState | None = None) -> Work:
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
    output: Place, collection: Collection, parts: Sequence[Part], shard_rows: int
) -> tuple[Records, list[ShardRecord], list[ShardRecord]]:
    """The records of shards that are good still, those whose input files have changed since, or are gone altogether."""
    by_index = {part.index: part for part in parts}
    good: Records = collections.defaultdict(dict)
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
