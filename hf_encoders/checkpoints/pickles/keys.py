"""What may be a key of a dictionary or an item of a set: its hash runs no code, and comparing it takes little time."""

import numpy as np

from ..checkpoint import Stub, TensorHandle

# Comparing nested tuples recurses, and takes the time that comparing all of their parts takes.
_MOST_PARTS, _MOST_COMPOUND = 200, 20_000
_PLAIN = (str, bytes, bool, float, type(None), Stub, TensorHandle, np.integer, np.bool_, np.floating)


class Keys:
    """Makes keys of a file's values. Values of equal hashes can be made at will, so that compound keys are counted."""

    def __init__(self) -> None:
        self._compound = 0

    def key(self, value: object) -> object:
        """The value, or a stub of it where it is no key that a checkpoint has.

        Args:
            value: from the file.

        Returns:
            Something hashable.
        """
        kind = type(value)
        if kind is str or isinstance(value, _PLAIN):
            return value
        if kind is int and -(1 << 63) <= value < 1 << 64:  # type: ignore[operator]
            return value
        if kind in (tuple, frozenset) and self._compound < _MOST_COMPOUND and _is_small(value):
            self._compound += 1
            return value
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
