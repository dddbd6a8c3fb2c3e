"""Embeds a collection into a Lance table, and follows it: only what is not there yet is embedded."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.std import tqdm

from .._version import __version__
from ..arrays import Mask
from ..data.layout import Growth, Part
from ..data.parts import Collection
from ..models.text_tower import Truncation
from ..progress.bars import progress_bar
from ..versions import library_versions
from .folder import EMBEDDING, ID, BadRow, BadRows, Plan
from .lance_table import (
    INPUT,
    LanceTable,
    TableManifest,
    check_columns,
    explained,
    manifest_of,
    need_lance,
    new_manifest,
    open_table,
    stored_rows,
    table_schema,
    write_manifest_of,
)
from .manifest import LIBRARIES, LISTED, check_bad_rows, check_same_plan
from .row_digests import NONE, Digests, are_in, digests_of, gathered, names_of
from .rows import EmbeddedRows, RowEmbedder
from .run import UNITS, warn_of_cut_texts

# What may change while a table follows its data.
_FOLLOWED_FAR = ("dataset.revision", "shard_rows", "format")
_FOLLOWED = ("dataset.digest", "dataset.parts", *_FOLLOWED_FAR)
_NO_DIRECTION = "its embedding has no direction: it is all zeros, or holds NaN or infinity"


@dataclass(frozen=True)
class EmbeddedTable:
    """What became of a collection.

    Args:
        manifest: what the table says of itself.
        changed_rows: rows that were there, and are embedded again because what they were read from had changed.
        growth: rows that are new in a table that had some, or went.
    """

    manifest: TableManifest
    changed_rows: int
    growth: Growth


def embed_table(
    embedder: RowEmbedder,
    collection: Collection,
    output: str | Path,
    plan: Plan,
    *,
    processes: PartialState,
    max_bad_rows: int | None = None,
) -> EmbeddedTable | None:
    """Embed all rows that are not in the table yet, and take out those that the collection has no more.

    A row is known by its id and by the state of what it is read from, such as the size and time of a file: a row that
    changed is embedded again, and its older self goes at the end. Rows are appended as they are made, `shard_rows` of
    the plan at a time; after a kill the same call goes on with those that are not there. Until the end the table is
    unfinished, and is not searched. Its rows are in no particular order.

    Rows that cannot be embedded are not in the table, and are tried again by each call. Streams that are far away are
    read to their end each time, to see which ids they have.

    Args:
        embedder: makes rows of the result.
        collection: what is embedded.
        output: a path that ends in .lance, or the URI of an object store, such as s3://bucket/maps.lance.
        plan: what the result depends on, see `make_plan`.
        processes: this process and their number; each embeds its share of the parts.
        max_bad_rows: stop when more rows cannot be embedded: at once in one process, at the end in all of them.

    Returns:
        What was done, in the main process; None in the others.

    Raises:
        ValueError: if a table with another plan is there, or with data that have nothing in common with these; for a
            column that cannot be kept; if there are too many bad rows.
        OSError: if the table cannot be written.
    """
    uri = str(output)
    with processes.main_process_first(), explained(uri):
        table = _open_or_create(embedder, collection, uri, plan, processes.is_main_process)
    known = np.unique(table.scanner(columns=[INPUT], filter=f"{INPUT} IS NOT NULL").to_table()[INPUT].to_numpy())
    parts = collection.parts(plan["shard_rows"])
    share = _Share(embedder, collection, uri, table, plan, max_bad_rows, known)
    own = parts[processes.process_index :: processes.num_processes]
    if collection.is_local:
        share.look(own)
    current = gathered(share.digests.values())
    new = np.setdiff1d(current, known)
    is_to_change = not collection.is_local or len(new) or len(np.setdiff1d(known, current))
    if collection.is_local and len(known) and len(new) == len(current):
        _check_same_data(embedder, collection, uri, table, plan, parts)
    if is_to_change and processes.is_main_process:
        write_manifest_of(table, new_manifest(plan))
    processes.wait_for_everyone()
    with progress_bar(
        share.count_missing() if collection.is_local else None,
        "Embedding",
        UNITS[plan["modality"]],
        is_shown=processes.is_main_process,
    ) as bar:
        share.embed(own, bar)
    processes.wait_for_everyone()
    warn_of_cut_texts(share.cut, processes)
    current = gathered(share.digests.values())
    written: int = sum(gather_object([share.rows])) if len(known) else 0  # in a new table no row is newer than others
    bad: list[tuple[int, list[BadRow]]] = gather_object([(share.bad_count, share.bad)])
    done = None
    if processes.is_main_process:
        bad_rows: BadRows = {
            "count": sum(count for count, _ in bad),
            "first": [row for _, rows in bad for row in rows][:LISTED],
        }
        if bad_rows["first"]:
            check_bad_rows(bad_rows["count"], max_bad_rows, bad_rows["first"][0])
        with explained(uri):
            done = _finish(uri, table, plan, np.setdiff1d(known, current), written, bad_rows, bool(is_to_change))
    processes.wait_for_everyone()
    return done


def _open_or_create(embedder: RowEmbedder, collection: Collection, uri: str, plan: Plan, is_main: bool) -> LanceTable:
    if INPUT in embedder.kept:
        raise ValueError(
            f"{uri}: the column {INPUT!r} cannot be kept: the table has its own; leave it out by --columns"
        )
    if dotted := [name for name in embedder.kept if "." in name]:
        raise ValueError(f"{uri}: a Lance table has no column {dotted[0]!r}, with a dot; leave it out by --columns")
    table = open_table(uri)
    if table is None and not is_main:
        raise ValueError(f"{uri}: the main process made it, and this one does not see it; share its folder")
    if table is None:
        place = Path(uri)
        if "://" not in uri and place.exists() and not (place.is_dir() and not any(place.iterdir())):
            raise FileExistsError(f"{uri}: exists already, and is no Lance table; choose another --output")
        schema = table_schema(embedder.features, new_manifest(plan))
        # Rows keep their numbers when others are deleted, or the table is compacted.
        return need_lance(uri).write_dataset(schema.empty_table(), uri, enable_stable_row_ids=True)
    check_same_plan(uri, dict(manifest_of(uri, table)), plan, _FOLLOWED if collection.is_local else _FOLLOWED_FAR)
    check_columns(uri, table, embedder.features)
    return table


def _check_same_data(
    embedder: RowEmbedder, collection: Collection, uri: str, table: LanceTable, plan: Plan, parts: Sequence[Part]
) -> None:
    """Refuse data none of which is in the table: not one row as it was, and not one id."""
    before = manifest_of(uri, table)
    if embedder.id_column is not None or collection.id_type != "int64":
        there = set(map(str, table.scanner(columns=[ID]).to_table()[ID].to_pylist()))
        names = (name for part in parts for ids in names_of(embedder, collection, part) for name in ids.to_pylist())
        if any(str(name) in there for name in names):
            return
    check_same_plan(uri, dict(before), plan, [name for name in _FOLLOWED if name != "dataset.digest"])


class _Share:
    """The parts of one process.

    Attributes:
        digests: part → the digests of its rows, as they are now.
        rows: how many rows were written.
        bad_count: how many could not be embedded.
        bad: the first of these.
        cut: the texts that were cut.
    """

    def __init__(
        self,
        embedder: RowEmbedder,
        collection: Collection,
        uri: str,
        table: LanceTable,
        plan: Plan,
        max_bad_rows: int | None,
        known: Digests,
    ):
        self._embedder, self._collection = embedder, collection
        self._uri, self._table, self._known = uri, table, known
        self._schema = table.schema
        self._rows_per_commit, self._max_bad_rows = plan["shard_rows"], max_bad_rows
        self._waiting: list[pa.Table] = []
        self.digests: dict[int, Digests] = {}
        self.rows, self.bad_count = 0, 0
        self.bad: list[BadRow] = []
        self.cut = Truncation()

    def look(self, parts: Sequence[Part]) -> None:
        """Find out which rows there are; what is embedded is not read."""
        for part in parts:
            start, found = 0, [NONE]
            for ids in names_of(self._embedder, self._collection, part):
                found.append(digests_of(self._collection, part, start, ids))
                start += len(ids)
            self.digests[part.index] = np.concatenate(found)

    def count_missing(self) -> int:
        """How many of the rows that were looked at are not in the table."""
        return sum(int(np.count_nonzero(~are_in(digests, self._known))) for digests in self.digests.values())

    def embed(self, parts: Sequence[Part], bar: tqdm) -> None:
        """Append the rows that are not in the table."""
        missing = itertools.chain.from_iterable(map(self._missing, parts))
        size = min(self._embedder.rows_per_block, self._rows_per_commit)
        for rows, ids, digests in _regrouped(missing, size):
            made = self._embedder.embed(rows, ids)
            self._keep(made, digests[made.kept])
            self.cut.add(made.cut)
            bar.update(len(rows))
        self._append()

    def _missing(self, part: Part) -> "Iterator[_Rows]":
        """The rows of a part that are not in the table, with names and digests."""
        looked = self.digests.get(part.index)
        if looked is not None and are_in(looked, self._known).all():
            return
        start, found = 0, [NONE]
        for table in self._collection.tables(part, 0, self._embedder.columns):
            ids = self._embedder.ids(table, part, start)
            if looked is None:
                digests = digests_of(self._collection, part, start, ids)
                found.append(digests)
            else:
                digests = looked[start : start + len(table)]
            start += len(table)
            is_new: Mask = ~are_in(digests, self._known)
            if is_new.any():
                mask = pa.array(is_new)
                yield table.filter(mask), ids.filter(mask), digests[is_new]
        if looked is None:
            self.digests[part.index] = np.concatenate(found)

    def _keep(self, made: EmbeddedRows, digests: Digests) -> None:
        values = made.table[EMBEDDING].combine_chunks().flatten().to_numpy().reshape(-1, self._embedder.dimensions)
        lengths = np.linalg.norm(values.astype(np.float32), axis=1)
        good: Mask = np.isfinite(lengths) & (lengths > 0)
        without = [(str(name), _NO_DIRECTION) for name in made.table[ID].filter(pa.array(~good)).to_pylist()]
        self._note_bad([*made.bad, *without], made.bad_count + len(without))
        rows = made.table.filter(pa.array(good))
        self._waiting.append(stored_rows(rows, self._embedder.features, pa.array(digests[good]), self._schema))
        if sum(map(len, self._waiting)) >= self._rows_per_commit:
            self._append()

    def _note_bad(self, bad: Sequence[tuple[str, str]], count: int) -> None:
        self.bad_count += count
        rows: list[BadRow] = [{"id": name, "reason": reason} for name, reason in bad]
        self.bad = [*self.bad, *rows][:LISTED]
        if count:
            check_bad_rows(self.bad_count, self._max_bad_rows, self.bad[0])

    def _append(self) -> None:
        rows = pa.concat_tables([self._schema.empty_table(), *self._waiting])
        self._waiting = []
        if len(rows):
            with explained(self._uri):
                self._table.insert(rows)
            self.rows += len(rows)


_Rows = tuple[pa.Table, pa.Array, Digests]


def _regrouped(pieces: Iterator[_Rows], size: int) -> Iterator[_Rows]:
    """Rows in groups of a size, for whole batches; the last may be smaller."""
    waiting: list[_Rows] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += len(piece[0])
        while count >= size:
            rows, ids, digests = _joined(waiting)
            yield rows.slice(0, size), ids.slice(0, size), digests[:size]
            waiting = [(rows.slice(size), ids.slice(size), digests[size:])]
            count -= size
    if count:
        yield _joined(waiting)


def _joined(pieces: Sequence[_Rows]) -> _Rows:
    names = [chunk for _, ids, _ in pieces for chunk in (ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids])]
    rows = pa.concat_tables([table for table, _, _ in pieces])
    return rows, pa.chunked_array(names), np.concatenate([digests for _, _, digests in pieces])


def _finish(
    uri: str, table: LanceTable, plan: Plan, gone: Digests, written: int, bad: BadRows, is_changed: bool
) -> EmbeddedTable:
    """Take out what the collection has no more, and say in the table that it is finished."""
    table.checkout_latest()  # what other processes appended
    before = manifest_of(uri, table)
    again = 0
    if len(gone):
        scanned = table.scanner(columns=[ID, INPUT], filter=f"{INPUT} IS NOT NULL").to_table()
        is_gone = are_in(scanned[INPUT].to_numpy(), gone)
        names = scanned[ID].filter(pa.array(is_gone))
        stay = set(scanned[ID].filter(pa.array(~is_gone)).to_pylist())
        again = sum(name in stay for name in names.to_pylist())
        table.merge_insert(INPUT).when_matched_delete().execute(pa.table({INPUT: pa.array(gone)}))
    versions = {"hf_encoders": __version__} | library_versions((*LIBRARIES, "pylance"))
    manifest = new_manifest(plan, table.count_rows(), bad, **versions)
    if is_changed or _without_versions(before) != _without_versions(manifest):
        write_manifest_of(table, manifest)
    growth = Growth(new_rows=max(written - again, 0), removed_rows=len(gone) - again)
    return EmbeddedTable(manifest, again, growth)


def _without_versions(manifest: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in manifest.items() if name not in ("versions", "model", "dataset")}
