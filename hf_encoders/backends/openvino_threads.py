"""OpenVINO's threads across a fork.

OpenVINO keeps the threads of a program that is gone, for the next one that wants as many. In a forked process they are
not there, and the next program would wait for them for ever. So before a fork, small programs take all that are idle;
the child keeps those for ever, and the parent gives them back.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import finalize

import numpy as np

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, Model

# How many streams, and how many threads for all of them.
_Threads = tuple[int, int]
# One entry for each set of idle threads. A list, because its methods are whole in the face of other threads.
_IDLE: list[_Threads] = []


def use_threads(program: object, compiled: "CompiledModel") -> None:
    """Note that a program uses threads while it exists."""
    threads = compiled.get_property("NUM_STREAMS"), compiled.get_property("INFERENCE_NUM_THREADS")
    if threads in _IDLE:
        _IDLE.remove(threads)
    finalize(program, _IDLE.append, threads).atexit = False
    _smallest_graph()  # now, because nothing should be imported while the process forks


def take_idle_threads(get_core: "Callable[[], Core]") -> "list[CompiledModel]":
    """Programs that hold all idle threads, while they exist; those too that become idle meanwhile."""
    held: list[CompiledModel] = []
    while len(held) < len(_IDLE):
        streams, threads = _IDLE[len(held)]
        settings = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
        held.append(get_core().compile_model(_smallest_graph(), "CPU", settings))
    return held


@functools.cache
def _smallest_graph() -> "Model":
    import openvino
    from openvino import opset13 as operations

    values = operations.parameter([1], np.float32)
    return openvino.Model([operations.relu(values)], [values])


def forget_idle_threads() -> None:
    """In a forked process: none are there."""
    _IDLE.clear()
