"""Embeds a collection by Ray Data, on one machine or a cluster, into the folder that the local engine writes.

    parts ── tasks on CPUs ──> batches ── actors with the network ──> embeddings ── this process ──> shards

A shard is written by this process once all its rows are here, so no worker has to see the output. Rows, files and
manifest are those of the local engine, and either goes on with what the other began. The bytes are the same, too, on
processors of a kind, where a worker has as many threads as a process of the local engine: PyTorch adds in another order
with more. Where a worker is lost, Ray does its work again on another.
"""

import pickle
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from tqdm.std import tqdm

from ..backends.sent_tower import SentTower
from ..data.layout import Part
from ..data.parts import Collection
from ..data.remote_path import Place
from ..models.backend import get_backend
from ..models.input_errors import one_line
from ..models.text_tower import Truncation
from ..progress.bars import progress_bar
from .folder import PLAN, Plan
from .halves import Block, Embedded, GatheredBlock
from .manifest import check_bad_rows, write_manifest
from .ray_cluster import Workers, cluster, environment
from .ray_workers import (
    Compute,
    Failed,
    Job,
    Message,
    Network,
    Reading,
    ReadParts,
    ShardEnd,
    Todo,
    Warned,
    message_of,
)
from .rows import EmbeddedRows, RowEmbedder
from .run import UNITS, count_rows, first_missing, remove_after, whole_shards
from .shards import read_records, write_shard
from .work import EmbeddedFolder, Records, Work, take_up

# Ray hands on what a task makes in pieces of this size, so that the network need not wait for the whole part.
_BYTES_PER_PIECE = 16 << 20
_MOST_TASKS = 10_000
# The package of classes that transformers makes of a repo's code.
_OWN_CODE = b"transformers_modules"
_NUMBER = re.compile(r"-?\d[\d.e+-]*")
_Shard: TypeAlias = tuple[int, int]


def embed_with_ray(
    embedder: RowEmbedder,
    collection: Collection,
    output: Place,
    plan: Plan,
    *,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    max_bad_rows: int | None = None,
) -> EmbeddedFolder:
    """Embed all rows that are not embedded yet; as `embed_collection`, by the workers of Ray.

    Args:
        embedder: makes rows of the result; the workers get copies of its model, which need not be on a disk of theirs.
        collection: what is embedded. The workers read it, so they see its files.
        output: as in `embed_collection`; this process alone writes there.
        plan: see `make_plan`.
        address: see `cluster`, as for `workers` and `gpus_per_worker`.
        workers: how many compute.
        gpus_per_worker: for each of them.
        max_bad_rows: stop at once when more rows cannot be embedded.

    Raises:
        ValueError: also if there is no such cluster, or a worker cannot read what this process can.
        OSError: if the output cannot be written, or is something else.
    """
    rows = plan["shard_rows"]
    with ExitStack() as stack:
        joining = partial(stack.enter_context, cluster(address, workers, gpus_per_worker))
        # Where there is no cluster, nothing is written; what is finished already needs none.
        joined = None if (output / PLAN).is_file() else joining()
        work = take_up(output, plan, collection)
        todo = _unfinished(output, work.parts, work.records)
        gathering = _Gathering(embedder, collection, output, rows, max_bad_rows, work)
        if todo:
            total = count_rows([each.part for each in todo])
            joined = joined or joining()
            with progress_bar(total, "Embedding", UNITS[plan["modality"]]) as bar:
                for message in _messages(embedder, collection, todo, rows, joined):
                    gathering.take(message, bar)
            gathering.check_complete(todo)
    gathering.warn_of_cut_texts()
    manifest = write_manifest(output, plan, read_records(output), max_bad_rows)
    return work.result(manifest)


def _unfinished(output: Place, parts: Sequence[Part], records: Records) -> list[Todo]:
    found = []
    for part in parts:
        done = whole_shards(output, records[part.index])
        if done is not None:
            found.append(Todo(part, first_missing(done), done))
    return found


def _messages(
    embedder: RowEmbedder, collection: Collection, todo: Sequence[Todo], rows: int, workers: Workers
) -> Iterator[Message]:
    """All messages about the parts, in any order."""
    import ray
    import ray.data

    tower = embedder.embedder.tower
    sent = SentTower(tower.model)
    _ = tower.processor  # a worker does not see the folder that it may have to be loaded from
    without_tower = embedder.with_tower(None)
    without_weights = sent.without_weights(tower)
    if _OWN_CODE in without_weights:
        raise ValueError("the model runs code of its own repo, which no worker has: embed with --engine local")
    size = _batch_size(embedder, workers)
    reading = ray.cloudpickle.dumps(Reading(collection, without_tower, list(todo), rows, size))
    job = ray.put(Job(environment(), reading, without_weights))
    network = ray.put(Network(pickle.dumps(without_tower), without_weights, sent.weights()))
    with _in_small_pieces():
        tasks = ray.data.range(len(todo), override_num_blocks=min(len(todo), _MOST_TASKS))
        device = None if workers.gpus else "cpu"
        messages = tasks.map_batches(ReadParts(job), batch_size=1, batch_format="pyarrow", num_cpus=1).map_batches(
            Compute,
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers.count),
            num_cpus=workers.cpus,
            num_gpus=workers.gpus,
            fn_constructor_args=([network], device, workers.threads),
        )
    try:
        for table in messages.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in range(len(table)):
                yield message_of(table, row)
    except ray.exceptions.RayError as error:
        raise ValueError(f"Ray could not go on ({one_line(error)}); the same command goes on where it ended") from error


def _batch_size(embedder: RowEmbedder, workers: Workers) -> int:
    """How many pictures the network of a worker sees at a time: fewer of a large model on a CPU, as everywhere."""
    options: Mapping[str, Any] = embedder.embedder.options
    wanted = int(options["batch_size"])
    if workers.gpus:
        return wanted
    threads = torch.get_num_threads()
    torch.set_num_threads(workers.threads)
    try:
        backend = get_backend(embedder.embedder.tower, options.get("backend", "torch"), options.get("dtype"))
    finally:
        torch.set_num_threads(threads)
    return min(wanted, backend.max_batch or wanted)


@contextmanager
def _in_small_pieces() -> Iterator[None]:
    """Settings of Ray Data for the data sets that are made meanwhile, which keep a copy."""
    import ray.data

    context = ray.data.DataContext.get_current()
    before = context.target_max_block_size, context.enable_progress_bars, context.print_on_execution_start
    context.target_max_block_size, context.enable_progress_bars = _BYTES_PER_PIECE, False
    context.print_on_execution_start = False
    try:
        yield
    finally:
        context.target_max_block_size, context.enable_progress_bars, context.print_on_execution_start = before


@dataclass
class _OpenShard:
    """A shard of which some messages are here."""

    blocks: dict[int, GatheredBlock] = field(default_factory=lambda: defaultdict(GatheredBlock))
    rows: dict[int, EmbeddedRows] = field(default_factory=dict)
    end: ShardEnd | None = None


class _Gathering:
    """Writes shards of the messages about them, which come in any order."""

    def __init__(
        self,
        embedder: RowEmbedder,
        collection: Collection,
        output: Place,
        shard_rows: int,
        max_bad_rows: int | None,
        work: Work,
    ):
        self._embedder, self._collection, self._output = embedder, collection, output
        self._shard_rows, self._max_bad_rows, self._changed = shard_rows, max_bad_rows, work.changed
        self._parts = {part.index: part for part in work.parts}
        self._bad_count = sum(record.bad_count for own in work.records.values() for record in own.values())
        self._open: dict[_Shard, _OpenShard] = defaultdict(_OpenShard)
        self._written: set[_Shard] = set()
        self._finished: set[int] = set()
        self._cut: dict[tuple[_Shard, int], Truncation] = {}
        self._said: set[str] = set()

    def take(self, message: Message, bar: tqdm) -> None:
        """Note a message; write its shard, if it was the last one about it.

        Raises:
            ValueError: if a worker could not go on, or there are too many bad rows.
        """
        if isinstance(message, Failed):
            raise ValueError(message.reason)
        if isinstance(message, Warned):
            self._warn(message)
        elif message.shard not in self._written:  # a worker that was lost may have said it before
            shard = self._open[message.shard]
            if isinstance(message, ShardEnd):
                shard.end = message
            else:
                assert isinstance(message, (Block, Embedded))
                self._note(message, shard, bar)
            if shard.end is not None and len(shard.rows) == shard.end.blocks:
                self._write(shard.end, [shard.rows[number] for number in range(shard.end.blocks)])

    def check_complete(self, todo: Sequence[Todo]) -> None:
        """Raise RuntimeError if some part is not written."""
        if missing := {each.part.index for each in todo} - self._finished:
            raise RuntimeError(f"Ray ended without {len(missing)} parts, such as part {min(missing)}; go on as before")

    def warn_of_cut_texts(self) -> None:
        """One warning of the texts that this run cut."""
        total = Truncation()
        for _, cut in sorted(self._cut.items(), key=lambda item: item[0]):
            total.add(cut)
        total.warn()

    def _note(self, message: Block | Embedded, shard: _OpenShard, bar: tqdm) -> None:
        number = message.number if isinstance(message, Block) else message.block
        if number in shard.rows:
            return
        block = shard.blocks[number]
        block.take(message)
        if not block.is_whole:
            return
        rows = shard.rows[number] = shard.blocks.pop(number).joined(self._embedder)
        self._bad_count += rows.bad_count
        if rows.cut.count:
            self._cut[message.shard, number] = rows.cut
        if rows.bad:
            name, reason = rows.bad[0]
            check_bad_rows(self._bad_count, self._max_bad_rows, {"id": name, "reason": reason})
        bar.update(len(rows.table) + rows.bad_count)

    def _write(self, end: ShardEnd, content: list[EmbeddedRows]) -> None:
        part, number = end.shard
        if end.state != self._collection.state(self._parts[part], number * self._shard_rows, self._shard_rows):
            raise ValueError(
                f"{self._collection.name}: a worker sees other files there, or they have just changed; all machines"
                " must see the same ones: share the folder, or give a URL"
            )
        schema = self._embedder.features.arrow_schema
        write_shard(self._output, schema, part, number, content, lambda: end.is_last, end.state)
        del self._open[end.shard]
        self._written.add(end.shard)
        if end.is_last:
            self._finished.add(part)
            remove_after(self._output, self._changed, part, number)

    def _warn(self, message: Warned) -> None:
        """Warn once of what several workers say, whatever the numbers in it."""
        kind = _NUMBER.sub("#", message.text)
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(message.text, message.category, stacklevel=2)
