"""What all pickles of a checkpoint may take together: memory for objects, and the time that comparing keys takes."""

from pathlib import Path

import numpy as np

from ..checkpoint import Stub, TensorHandle
from ..errors import CheckpointError

# Objects may take this much memory, and this much more for each byte of a pickle. Python's own small objects are
# larger than what a pickle needs for them: a set takes 216 bytes, and one byte of a pickle.
_BYTES_FREE, _BYTES_PER_BYTE = 256 << 20, 32
STUB = 400  # bytes of a stub
# Comparing nested tuples recurses, and takes the time that comparing all of their parts takes.
_MOST_PARTS, _MOST_COMPOUND = 200, 10_000
_PLAIN = (str, bytes, bool, float, type(None), Stub, TensorHandle, np.integer, np.bool_, np.floating)


class Limits:
    """Counts what is taken.

    Args:
        path: of the checkpoint, for errors.
    """

    def __init__(self, path: Path):
        self.path = path
        self._left = _BYTES_FREE
        self._compound = 0

    def allow(self, size: int) -> None:
        """Allow what a pickle of so many bytes in the file justifies."""
        self._left += _BYTES_PER_BYTE * size

    def charge(self, count: int) -> None:
        """Count memory that is taken.

        Raises:
            CheckpointError: if it is more than the size of the pickles justifies.
        """
        self._left -= count
        if self._left < 0:
            raise CheckpointError(
                f"{self.path}: its pickle asks for much more memory than the size of the file justifies; it is refused"
            )

    def key(self, value: object) -> object:
        """The value as a key of a dictionary or an item of a set: hashing it runs no code, and comparing it is quick.

        Values of equal hashes can be made at will, so that compound keys are counted.

        Returns:
            Something hashable: a stub of the value where it is no key that a checkpoint has.
        """
        kind = type(value)
        if kind is str or isinstance(value, _PLAIN):
            return value
        if kind is int and -(1 << 63) <= value < 1 << 64:  # type: ignore[operator]
            return value
        if kind in (tuple, frozenset) and self._compound < _MOST_COMPOUND:
            self._compound += 1
            if _is_small(value):
                return value
        self.charge(STUB)
        return Stub(f"{kind.__module__}.{kind.__qualname__}", state=value)


def _is_small(value: object) -> bool:
    """Whether a tuple or frozenset has few parts, all of which can be keys. A part that stands twice counts twice."""
    parts, count = [value], 0
    while parts:
        part = parts.pop()
        count += 1
        if isinstance(part, (tuple, frozenset)):
            if count + len(parts) + len(part) > _MOST_PARTS:
                return False
            parts.extend(part)
        elif isinstance(part, int):
            if not -(1 << 63) <= part < 1 << 64:
                return False
        elif not isinstance(part, _PLAIN):
            return False
    return True
