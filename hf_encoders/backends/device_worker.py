"""The process of one device: parts of the inputs → their rows."""

import contextlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.input_batches import Part, Skipped
from ..models.input_errors import one_line
from ..models.text_tower import TextTower, Truncation
from ..models.tower import Tower
from .sent_tower import Receiver

_Made = TypeVar("_Made")


class Work(NamedTuple):
    """A part of the inputs of a call.

    Args:
        start: the index of the first.
        items: raw inputs, or the tensors of processed ones.
        options: those of `Tower.computed`, and whether inputs that cannot be used are skipped.
    """

    start: int
    items: object
    options: Mapping[str, Any]


class Done(NamedTuple):
    """The rows of a part.

    Args:
        indices: those of the inputs that have a row.
        rows: [n, D].
        skipped: those that have none, and why.
        truncation: the texts that were cut.
    """

    indices: list[int]
    rows: NDArray[np.float32]
    skipped: Skipped
    truncation: Truncation


class Failed(NamedTuple):
    """What a part raised."""

    error: Exception


def work(connection: Connection, device: str, threads: int) -> None:
    """Receive a tower, and then parts until the other side closes.

    Weights come first, then the tower, and the tower again when it has changed.

    Args:
        connection: to the process that hands out parts.
        device: where to compute.
        threads: how many, on a CPU.
    """
    import hf_encoders  # noqa: F401 - registers what compiles towers

    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        receiver = _or_failed(device, partial(Receiver, connection.recv(), device))
        tower: Tower | Failed = Failed(RuntimeError("no tower yet"))
        while True:
            message: bytes | Work = connection.recv()
            if isinstance(message, Work):
                connection.send(_answer(tower, message))
            elif isinstance(receiver, Failed):
                tower = receiver
            else:
                tower = _or_failed(device, partial(receiver.tower, message))


def _or_failed(device: str, make: Callable[[], _Made]) -> "_Made | Failed":
    try:
        return make()
    except Exception as error:  # a device that is not there, too little memory
        return Failed(RuntimeError(f"device {device!r}: {one_line(error)}"))


def _answer(tower: "Tower | Failed", part: Work) -> "Done | Failed":
    if isinstance(tower, Failed):
        return tower
    try:
        return _done(tower, part)
    except Exception as error:  # the caller raises it
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return Failed(RuntimeError(f"{type(error).__name__}: {one_line(error)}"))
        return Failed(error)


def _done(tower: Tower, part: Work) -> Done:
    truncation = Truncation()
    if isinstance(tower, TextTower):
        tower = tower.counting(truncation)
    skipped = Skipped() if part.options["skips"] else None
    options = {name: value for name, value in part.options.items() if name != "skips"}
    is_raw = not isinstance(part.items, Mapping)
    inputs = Part(part.start, cast(Sequence[object], part.items)) if is_raw else part.items
    indices, rows = tower.computed(inputs, skipped=skipped, **options)
    if not is_raw:
        indices = [part.start + index for index in indices]
        skipped = None if skipped is None else {part.start + index: error for index, error in skipped.items()}
    embeddings = torch.cat(rows) if rows else torch.empty(0, tower.dimensions)
    return Done(indices, embeddings.cpu().numpy(), skipped or Skipped(), truncation)
