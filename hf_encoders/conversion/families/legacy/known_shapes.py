"""Reads the sizes of a network off the shapes of its tensors, where some of the tensors may be missing."""

from collections.abc import Mapping

from ....checkpoints.state_dicts import Shape


class KnownShapes:
    """Shapes of tensors by name, some of which may be missing. A size that cannot be read is 0."""

    def __init__(self, shapes: Mapping[str, Shape]):
        self._shapes = shapes

    def __call__(self, name: str, axis: int = 0) -> int:
        """One size of a tensor."""
        shape = self._shapes.get(name, ())
        return shape[axis] if axis < len(shape) else 0

    def first(self, *names: str) -> int:
        """The first size of the first tensor that has one: all are sizes of the same channels."""
        return next((size for name in names if (size := self(name))), 0)

    def in_blocks(self, prefix: str, *parts: str) -> int:
        """The first size of a part of any block."""
        return self.first(*(f"{prefix}.{block}.{part}" for block in self.blocks(prefix) for part in parts))

    def blocks(self, prefix: str, part: str = "") -> list[int]:
        """The numbers of the blocks below a prefix, of those that have some part."""
        start = f"{prefix}."
        found = set()
        for name in self._shapes:
            number, _, rest = name.removeprefix(start).partition(".")
            if name.startswith(start) and number.isdecimal() and rest.startswith(part):
                found.add(int(number))
        return sorted(found)

    def reduction(self, *names: str) -> int:
        """Channels divided by inner channels of a squeezing layer's weight [inner, channels, ...]."""
        return next((self(name, 1) // self(name) for name in names if self(name) and self(name, 1)), 0)
