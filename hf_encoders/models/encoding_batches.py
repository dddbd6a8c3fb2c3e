"""What people hold, in batches: read as late as possible, what cannot be used named or skipped."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from torch import Tensor

# Indices of the inputs and what the model takes for them.
Batch = tuple[Sequence[int], dict[str, Tensor]]
# Index → why it was left out. Where None stands in its place, an input that cannot be used raises.
Skipped = dict[int, Exception]


class _Unreadable:
    """Stands for an item of a data set whose decoder failed."""

    def __init__(self, error: Exception):
        self.error = error


def prepared_batches(
    inputs: Any,
    batch_size: int,
    is_single: Callable[[Any], bool],
    prepare: Callable[[Any, int], dict[str, Tensor]],
    skipped: Skipped | None = None,
) -> Iterator[Batch]:
    """Batches of at most `batch_size` inputs as the model takes them, in order.

    Args:
        inputs: one input or many.
        batch_size: the most inputs in a batch.
        is_single: whether something is one input.
        prepare: raw inputs and the index of the first → what the model takes; raises ValueError or TypeError.
        skipped: collects the inputs that `prepare` refuses.
    """
    for start, items in read_batches(inputs, batch_size, is_single):
        try:
            batch: Batch = range(start, start + len(items)), _prepare_readable(items, start, prepare)
        except (ValueError, TypeError):
            if skipped is None:
                raise
            kept = [index for index in range(len(items)) if _is_usable(items, index, start, prepare, skipped)]
            if not kept:
                continue
            batch = [start + index for index in kept], prepare([items[index] for index in kept], start)
        yield batch


def read_batches(inputs: Any, size: int, is_single: Callable[[Any], bool]) -> Iterator[tuple[int, Any]]:
    """Lists or arrays of at most `size` raw inputs, each with the index of its first.

    Raises:
        ValueError: for a whole data set.
    """
    if hasattr(inputs, "column_names"):
        raise ValueError(f"a data set, expected one of its columns: {', '.join(inputs.column_names or ())}")
    if is_single(inputs):
        yield 0, [inputs]
    elif isinstance(inputs, (np.ndarray, Tensor)):
        for start in range(0, len(inputs), size):
            yield start, inputs[start : start + size]
    elif isinstance(inputs, Sequence):  # a data set's column too, which decodes what is read
        for start in range(0, len(inputs), size):
            yield start, _read(inputs, range(start, min(start + size, len(inputs))))
    else:
        items, start = iter(inputs), 0
        while batch := list(itertools.islice(items, size)):
            yield start, batch
            start += len(batch)


def ahead(batches: Iterator[Batch], count: int = 2) -> Iterator[Batch]:
    """The same batches, of which the next `count` are read and prepared in a thread while one is computed."""
    with ThreadPoolExecutor(1, "prepare-batches") as thread:
        waiting = deque(thread.submit(next, batches, None) for _ in range(count))
        try:
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, batches, None))
                yield batch
        finally:
            thread.shutdown(cancel_futures=True)


def check_readable(item: Any, index: int) -> None:
    """Raise ValueError for an item whose decoder failed."""
    if isinstance(item, _Unreadable):
        error = item.error
        raise ValueError(f"item {index} of the column cannot be decoded ({' '.join(str(error).split())})") from error


def count(inputs: Any, is_single: Callable[[Any], bool]) -> int | None:
    """How many inputs there are, where that is known before reading them."""
    return 1 if is_single(inputs) else len(inputs) if hasattr(inputs, "__len__") else None


def _read(inputs: Sequence[Any], indices: range) -> list[Any]:
    try:
        return list(inputs[indices.start : indices.stop])
    except Exception:  # a decoder may raise anything
        return [_read_one(inputs, index) for index in indices]


def _read_one(inputs: Sequence[Any], index: int) -> Any:
    try:
        return inputs[index]
    except Exception as error:
        return _Unreadable(error)


def _prepare_readable(items: Any, start: int, prepare: Callable[[Any, int], dict[str, Tensor]]) -> dict[str, Tensor]:
    for index, item in enumerate(items, start=start):
        check_readable(item, index)
    return prepare(items, start)


def _is_usable(
    items: Any, index: int, start: int, prepare: Callable[[Any, int], dict[str, Tensor]], skipped: Skipped
) -> bool:
    try:
        _prepare_readable([items[index]], start + index, prepare)
    except (ValueError, TypeError) as error:
        skipped[start + index] = error
        return False
    return True
