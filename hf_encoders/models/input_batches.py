"""Reads raw inputs in batches, as late as possible. An input that cannot be used is named or skipped."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import numpy as np
from torch import Tensor

from .input_errors import InputError, one_line

# Indices of the inputs, and what the model takes for them.
Batch = tuple[Sequence[int], dict[str, Tensor]]
# Index of an input that was left out → why. With None instead, an input that cannot be used raises.
Skipped = dict[int, Exception]

_IsSingle = Callable[[object], bool]
# The index of the first raw input of a read, and the raw inputs → batches.
_PrepareRead = Callable[[int, Sequence[object]], list[Batch]]
# Raw inputs and the index of the first → what the model takes; raises ValueError or TypeError.
_Prepare = Callable[[Sequence[object], int], dict[str, Tensor]]


@dataclass(frozen=True)
class Part:
    """Some of many raw inputs.

    Args:
        start: the index of the first.
        items: the inputs.
    """

    start: int
    items: Sequence[object]


class _Unreadable:
    """Stands for an item of a data set whose decoder failed."""

    def __init__(self, error: Exception):
        self.error = error


def prepared_batches(
    inputs: object, size: int, is_single: _IsSingle, prepare: _PrepareRead, threads: int = 1
) -> Iterator[Batch]:
    """Batches as the model takes them; several reads are read and prepared by threads while the model computes.

    Args:
        inputs: one input or many.
        size: the most inputs in one read.
        is_single: whether something is one input.
        prepare: the index of the first input of a read and the raw inputs → batches.
        threads: how many prepare; one more thread reads.
    """
    reads = read_batches(inputs, size, is_single)
    # An iterator is read in the caller's thread: it may be bound to it.
    if (count(inputs, is_single) or 0) > size:
        return _in_threads(reads, prepare, threads)
    return (batch for start, items in reads for batch in prepare(start, items))


def slices(tensors: Mapping[str, Tensor], total: int, size: int) -> Iterator[Batch]:
    """Batches of `total` inputs that are tensors already."""
    for start in range(0, total, size):
        stop = min(start + size, total)
        yield range(start, stop), {name: tensor[start:stop] for name, tensor in tensors.items()}


def usable(start: int, items: Sequence[object], prepare: _Prepare, skipped: Skipped | None = None) -> list[Batch]:
    """One batch of the raw inputs that can be used, or none.

    Args:
        start: index of the first.
        items: raw inputs.
        prepare: raw inputs and the index of the first → what the model takes; raises ValueError or TypeError.
        skipped: collects the inputs that `prepare` refuses.
    """
    try:
        return [(range(start, start + len(items)), _prepare_readable(items, start, prepare))]
    except (ValueError, TypeError):
        if skipped is None:
            raise
    kept = [index for index in range(len(items)) if _is_usable(items, index, start, prepare, skipped)]
    return [([start + index for index in kept], prepare([items[index] for index in kept], start))] if kept else []


def read_batches(inputs: object, size: int, is_single: _IsSingle) -> Iterator[tuple[int, Sequence[object]]]:
    """Lists or arrays of at most `size` raw inputs, each with the index of its first.

    Raises:
        ValueError: for a whole data set.
    """
    if hasattr(inputs, "column_names"):
        raise ValueError(f"a data set, expected one of its columns: {', '.join(inputs.column_names or ())}")
    if isinstance(inputs, Part):
        for start in range(0, len(inputs.items), size):
            yield inputs.start + start, inputs.items[start : start + size]
    elif is_single(inputs):
        yield 0, [inputs]
    elif isinstance(inputs, (np.ndarray, Tensor)):
        for start in range(0, len(inputs), size):
            yield start, cast(Sequence[object], inputs[start : start + size])
    elif isinstance(inputs, Sequence):  # a data set's column too, which decodes what is read
        for start in range(0, len(inputs), size):
            yield start, _read(inputs, range(start, min(start + size, len(inputs))))
    else:
        items, start = iter(cast(Iterable[object], inputs)), 0
        while batch := list(itertools.islice(items, size)):
            yield start, batch
            start += len(batch)


def check_readable(item: object, index: int) -> None:
    """Raise ValueError for an item whose decoder failed."""
    if isinstance(item, _Unreadable):
        error = item.error
        reason = f"cannot be decoded ({one_line(error)})"
        raise InputError(f"item {index} of the column {reason}", index=index, reason=reason) from error


def count(inputs: object, is_single: _IsSingle) -> int | None:
    """How many inputs there are; None where only reading them tells."""
    if isinstance(inputs, Part):
        return len(inputs.items)
    return 1 if is_single(inputs) else len(inputs) if isinstance(inputs, Sized) else None


def _in_threads(reads: Iterator[tuple[int, Sequence[object]]], prepare: _PrepareRead, threads: int) -> Iterator[Batch]:
    with ThreadPoolExecutor(1, "read-batches") as reader, ThreadPoolExecutor(threads, "prepare-batches") as preparers:

        def submit() -> Future[list[Batch] | None]:
            return preparers.submit(work, reader.submit(next, reads, None))

        def work(reading: Future[tuple[int, Sequence[object]] | None]) -> list[Batch] | None:
            read = reading.result()
            return None if read is None else prepare(*read)

        waiting = deque([submit()])
        waiting[0].exception()  # alone, so that the processor is loaded once
        waiting.extend(submit() for _ in range(threads))
        try:
            while (batches := waiting.popleft().result()) is not None:
                waiting.append(submit())
                yield from batches
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
            preparers.shutdown(wait=False, cancel_futures=True)


def _read(inputs: Sequence[object], indices: range) -> list[object]:
    try:
        return list(inputs[indices.start : indices.stop])
    except Exception:  # a decoder may raise anything
        return [_read_one(inputs, index) for index in indices]


def _read_one(inputs: Sequence[object], index: int) -> object:
    try:
        return inputs[index]
    except Exception as error:
        return _Unreadable(error)


def _prepare_readable(items: Sequence[object], start: int, prepare: _Prepare) -> dict[str, Tensor]:
    for index, item in enumerate(items, start=start):
        check_readable(item, index)
    return prepare(items, start)


def _is_usable(items: Sequence[object], index: int, start: int, prepare: _Prepare, skipped: Skipped) -> bool:
    try:
        _prepare_readable([items[index]], start + index, prepare)
    except (ValueError, TypeError) as error:
        skipped[start + index] = error
        return False
    return True
