"""Rows in a few arrays: a file that is mapped stays where it lies, and rows that are added join it in memory."""

from collections.abc import Iterator

import numpy as np

from ..arrays import AnyArray, Indices, Mask

ROWS_PER_PART = 65_536


class RowBlocks:
    """Rows [N, D] of one type, which grow.

    Args:
        rows: [N, D], in memory or mapped from a file.
        mapped: whether they are mapped. Such rows are never copied as a whole.
    """

    def __init__(self, rows: AnyArray, mapped: bool = False):
        self._blocks = [rows]
        self._first_in_memory = 1 if mapped else 0

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(block.nbytes for block in self._blocks[self._first_in_memory :])

    def append(self, rows: AnyArray) -> None:
        """Add rows. Blocks double in size, so that many small additions copy little."""
        blocks = self._blocks
        blocks.append(rows)
        while len(blocks) - self._first_in_memory > 1 and len(blocks[-2]) <= 2 * len(blocks[-1]):
            last = blocks.pop()
            blocks[-1] = np.concatenate([blocks[-1], last])

    def keep(self, kept: Mask) -> None:
        """Keep some rows, in memory.

        Args:
            kept: [N], which of them.
        """
        self._blocks = [self.array(kept)]
        self._first_in_memory = 0

    def take(self, numbers: Indices) -> AnyArray:
        """The rows [M, D] of these numbers [M]."""
        if len(self._blocks) == 1:
            return self._blocks[0][numbers]
        taken = np.empty((len(numbers), *self._blocks[0].shape[1:]), self._blocks[0].dtype)
        start = 0
        for block in self._blocks:
            here = (numbers >= start) & (numbers < start + len(block))
            taken[here] = block[numbers[here] - start]
            start += len(block)
        return taken

    def parts(self, allowed: Mask | None = None) -> Iterator[AnyArray]:
        """The rows in their order, `ROWS_PER_PART` of them at most at a time.

        Args:
            allowed: [N], leave the others out.
        """
        start = 0
        for block in self._blocks:
            for first in range(0, len(block), ROWS_PER_PART):
                part = block[first : first + ROWS_PER_PART]
                here = None if allowed is None else allowed[start + first : start + first + len(part)]
                if here is None or here.all():
                    yield part
                elif here.any():
                    yield part[here]
            start += len(block)

    def array(self, allowed: Mask | None = None) -> AnyArray:
        """All rows, or those that are allowed, in one array: a copy, unless one block holds them."""
        if len(self._blocks) == 1 and (allowed is None or allowed.all()):
            return self._blocks[0]
        return np.concatenate([self._blocks[0][:0], *self.parts(allowed)])
