"""What runs on Ray's workers: reading and preparing on CPUs, and the network in actors. Messages go between them."""

import os
import pickle
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
import torch

from ..backends.sent_tower import Receiver, received_without_weights
from ..data.layout import Part
from ..data.parts import Collection
from ..models.input_errors import one_line
from .halves import Batch, Block, Embedded, computed, prepared
from .reading import read_shards
from .rows import RowEmbedder

if TYPE_CHECKING:
    from ray import ObjectRef

MESSAGE, TASK = "message", "id"


class ShardEnd(NamedTuple):
    """The end of a shard.

    Args:
        shard: the numbers of its part and of the shard in it.
        blocks: how many it has.
        is_last: whether the part ends with it.
        state: of what it was read from, see `Collection.state`.
    """

    shard: tuple[int, int]
    blocks: int
    is_last: bool
    state: str


class Warned(NamedTuple):
    """A warning of a worker."""

    text: str
    category: type[Warning]


class Failed(NamedTuple):
    """What stops the run: what a worker raised, on one line."""

    reason: str


Message = Block | Batch | Embedded | ShardEnd | Warned | Failed


class Todo(NamedTuple):
    """A part that is not finished.

    Args:
        part: the part.
        first: its first shard that is missing.
        done: its shards that are whole.
    """

    part: Part
    first: int
    done: frozenset[int]


class Reading(NamedTuple):
    """What a worker that reads needs.

    Args:
        collection: what is embedded.
        embedder: makes rows of the result; its tower has no weights here.
        todo: the parts that are not finished.
        shard_rows: rows in a shard.
        batch_size: pictures in a batch.
    """

    collection: Collection
    embedder: RowEmbedder
    todo: list[Todo]
    shard_rows: int
    batch_size: int


class Job(NamedTuple):
    """What a worker that reads is sent.

    Args:
        environment: variables that storage and the Hub are reached by; they are set before anything else is unpickled.
        reading: a `Reading`, pickled, without its tower.
        tower: see `SentTower.without_weights`.
    """

    environment: Mapping[str, str]
    reading: bytes
    tower: bytes


class Network(NamedTuple):
    """What an actor is sent.

    Args:
        embedder: a `RowEmbedder`, pickled, without its tower.
        tower: see `SentTower.without_weights`.
        weights: see `SentTower.weights`.
    """

    embedder: bytes
    tower: bytes
    weights: bytes


class ReadParts:
    """Reads parts and prepares their rows: a task on a CPU.

    Args:
        job: where a `Job` is.
    """

    def __init__(self, job: "ObjectRef[Job]"):
        self._job = job

    def __call__(self, tasks: pa.Table) -> Iterator[pa.Table]:
        """Yield messages about parts, by their places in the list of those that are not finished."""
        for number in tasks[TASK].to_pylist():
            try:
                reading = _reading(self._job)
                for message in _read(reading, reading.todo[number]):
                    yield as_table(message)
            except Exception as error:  # files, storage, whatever the libraries raise
                yield as_table(_failed(error))


class Compute:
    """Embeds batches: an actor with the network.

    Args:
        network: where a `Network` is, in a list: Ray would fetch what stands alone.
        device: where to compute; by default on the accelerator.
        threads: how many, on a CPU.
    """

    def __init__(self, network: "list[ObjectRef[Network]]", device: str | None, threads: int):
        self._error: Exception | None = None
        torch.set_num_threads(threads)
        try:
            self._embedder = _with_network(network[0], device)
        except Exception as error:  # a device that is not there, too little memory
            self._error = error

    def __call__(self, table: pa.Table) -> pa.Table:
        """Embed what is a batch, and pass on every other message."""
        message = message_of(table, 0)
        if not isinstance(message, Batch):
            return table
        try:
            if self._error is not None:
                raise self._error
            return as_table(computed(self._embedder, message))
        except Exception as error:  # the driver raises it; Ray would print a traceback of its own
            return as_table(_failed(error))


def as_table(message: Message) -> pa.Table:
    """A message as Ray Data takes it: a table of one row."""
    return pa.table({MESSAGE: pa.array([pickle.dumps(message, pickle.HIGHEST_PROTOCOL)], pa.large_binary())})


def message_of(table: pa.Table, row: int) -> Message:
    """The message in a row."""
    found: Message = pickle.loads(table[MESSAGE][row].as_buffer())
    return found


def _failed(error: Exception) -> Failed:
    is_said = isinstance(error, (ValueError, OSError, ImportError))
    return Failed(one_line(error) if is_said else f"{type(error).__name__}: {one_line(error)}")


def _read(reading: Reading, todo: Todo) -> Iterator[Message]:
    """The messages about a part."""
    embedder, rows = reading.embedder, reading.shard_rows
    sizes = rows, embedder.rows_per_block
    for shard in read_shards(reading.collection, todo.part, todo.first, embedder.columns, *sizes):
        if shard.number in todo.done:
            deque(shard.blocks, maxlen=0)
            continue
        start, blocks = shard.number * rows, 0
        for block in shard.blocks:
            messages = prepared(embedder, block, todo.part, shard.number, blocks, start, reading.batch_size)
            yield from _with_warnings(messages)
            start, blocks = start + len(block), blocks + 1
        yield ShardEnd((todo.part.index, shard.number), blocks, shard.is_last(), shard.state)


def _with_warnings(messages: Iterator[Message]) -> Iterator[Message]:
    """The messages, each as it is made, and the warnings that came up meanwhile."""
    while True:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            message = next(messages, None)
        for one in caught:
            yield Warned(str(one.message), one.category)
        if message is None:
            return
        yield message


@lru_cache(maxsize=1)
def _reading(job: "ObjectRef[Job]") -> Reading:
    """The job of a run, unpickled once per process."""
    import ray

    content: Job = ray.get(job)
    os.environ.update(content.environment)
    reading: Reading = pickle.loads(content.reading)
    embedder = reading.embedder.with_tower(received_without_weights(content.tower))
    return Reading(reading.collection, embedder, reading.todo, reading.shard_rows, reading.batch_size)


def _with_network(network: "ObjectRef[Network]", device: str | None) -> RowEmbedder:
    import ray

    import hf_encoders  # noqa: F401 - registers what compiles towers

    content: Network = ray.get(network)
    if device is None:
        accelerator = torch.accelerator.current_accelerator()
        if accelerator is None:
            raise RuntimeError("no accelerator on a worker, though Ray lent it one: its PyTorch is built without")
        device = str(accelerator)
    embedder: RowEmbedder = pickle.loads(content.embedder)
    return embedder.with_tower(Receiver(content.weights, device).tower(content.tower))
