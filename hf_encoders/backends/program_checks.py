"""What a program is asked before it runs: whether this is its process, and whether the inputs have its sizes."""

import os
from collections.abc import Mapping, Sequence
from weakref import WeakSet

from torch import Tensor

from .immortal import make_immortal

_PROGRAMS: "WeakSet[object]" = WeakSet()


class Owner:
    """Remembers the process that made a program.

    Args:
        program: a forked process never frees it: its end would wait for threads that are not there.
    """

    def __init__(self, program: object) -> None:
        self._process = os.getpid()
        _PROGRAMS.add(program)

    def check(self) -> None:
        """Raise RuntimeError in a process that was forked from it: the threads of the program are not there."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "this program was compiled before the process was forked, and its threads do not survive a fork: ask"
                " get_backend again, or start workers by spawn"
            )


def leave_programs() -> None:
    """In a forked process: keep all programs of the parent for ever."""
    for program in list(_PROGRAMS):
        make_immortal(program)
    _PROGRAMS.clear()


def check_sizes(batch: Mapping[str, Tensor], sizes: Mapping[str, Sequence[int | None]]) -> None:
    """Raise ValueError for tensors of other sizes than a program takes; None stands for any."""
    for name, expected in sizes.items():
        found = batch[name].shape
        if len(found) != len(expected) or any(
            size is not None and size != here for size, here in zip(expected, found, strict=True)
        ):
            taken = ", ".join("N" if size is None else str(size) for size in expected)
            raise ValueError(
                f"{name} {list(found)}, and this program was compiled for [{taken}], the size that the processor makes;"
                " set the processor's size, or use backend='torch'"
            )
