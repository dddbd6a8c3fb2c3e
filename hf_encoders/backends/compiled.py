"""Towers that are compiled for the CPU: once for what they compute, and again when that has changed.

A program is compiled by one thread at a time; programs that are there already are found, and run, without waiting. A
forked process begins with none, because the threads that a program runs on do not survive a fork.
"""

import gc
import os
import sys
import threading
from pathlib import Path
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

from torch import nn
from torch.export import ExportedProgram

from ..models.backend import Backend
from ..models.tower import Tower
from .exported_files import exported_file, has_the_function_of
from .folded_tower import LeftAsItIs, can_fold, fold
from .function_state import FunctionState
from .onnx_backend import OnnxBackend
from .openvino_backend import OpenVinoBackend, after_fork_in_child, after_fork_in_parent, before_fork
from .program_checks import leave_programs
from .programs import export_tower


class _BackendClass(Protocol):
    def __call__(self, source: ExportedProgram | Path, names: tuple[str, ...], precision: str) -> Backend: ...


BACKENDS: dict[str, _BackendClass] = {"onnx": OnnxBackend, "openvino": OpenVinoBackend}
_PRECISIONS = {"onnx": ("float32", "int8"), "openvino": ("float32", "bfloat16", "int8")}
# So many programs of a tower are kept that differ in settings, such as the active adapter. Those of other weights go.
_MOST_SETTINGS = 4


class _Kept(NamedTuple):
    state: FunctionState
    program: Backend


# Model → tower, backend and precision → its programs, the newest last; a list is replaced, never changed. The models
# are held weakly: a program goes when its model goes, and a copy of a model compiles its own.
_KEPT: "WeakKeyDictionary[nn.Module, dict[tuple[str, str, str], list[_Kept]]]" = WeakKeyDictionary()
_LOCK = threading.RLock()
# Whether the garbage collector was on before the fork.
_COLLECTS = True


def compiled_backend(tower: Tower, backend: str, dtype: str | None = None) -> Backend:
    """The compiled program of a tower, kept from an earlier call or compiled now; safe to ask from several threads.

    Args:
        tower: of the model.
        backend: "onnx" or "openvino".
        dtype: the precision to compute in; by default that of the weights, if the backend has it.

    Raises:
        ValueError: if the backend has no such precision, or needs an exported model for it.
        ImportError: if the backend's library is missing.
    """
    precisions = _PRECISIONS[backend]
    precision = dtype or str(tower.model.dtype).removeprefix("torch.")
    if dtype is None and precision not in precisions:
        precision = "float32"  # of half-precision weights: nothing is lost
    if precision not in precisions:
        raise ValueError(f"{backend} computes in {' or '.join(precisions)}, not in {precision}")
    return _kept(tower, (tower.name, backend, precision))


def folded_backend(tower: Tower) -> Backend | None:
    """PyTorch's faster backend of a tower, kept as programs are; None if the tower is computed as it is.

    See `fold`; safe to ask from several threads.
    """
    if not can_fold(tower):
        return None
    folded = _kept(tower, (tower.name, "torch", "float32"))
    return None if isinstance(folded, LeftAsItIs) else folded


def _kept(tower: Tower, key: tuple[str, str, str]) -> Backend:
    program = _find(tower, key)
    if program is None:
        with _LOCK:
            program = _find(tower, key) or _compile_and_keep(tower, key)
    return program


def _find(tower: Tower, key: tuple[str, str, str]) -> Backend | None:
    """The program of what a tower computes now."""
    for kept in reversed(_KEPT.get(tower.model, {}).get(key, [])):
        if kept.state.change(tower) == "none":
            return kept.program
    return None


def _compile_and_keep(tower: Tower, key: tuple[str, str, str]) -> Backend:
    _, backend, precision = key
    state = FunctionState(tower)  # before it is compiled: a change meanwhile is noticed by the next call
    program = _compile(tower, backend, precision)
    programs = _KEPT.setdefault(tower.model, {})
    good = [kept for kept in programs.get(key, []) if kept.state.change(tower) != "weights"]
    programs[key] = [*good[1 - _MOST_SETTINGS :], _Kept(state, program)]
    return program


def _compile(tower: Tower, backend: str, precision: str) -> Backend:
    if backend == "torch":
        return fold(tower)
    make, names = BACKENDS[backend], tower.input_names
    try:
        file = exported_file(tower, backend, precision)
        if file is not None:
            program = make(file, names, precision)
            if precision == "int8" or has_the_function_of(program, tower, precision):
                return program
        return make(export_tower(tower), names, precision)
    except ModuleNotFoundError as error:
        raise ImportError(f"backend={backend!r} needs: pip install 'hf-encoders[export]' ({error})") from error


def _before_fork() -> None:
    global _COLLECTS
    _LOCK.acquire()  # waits for a program that another thread compiles: half of it would be left in the child
    # A program that the collector freed from here on would leave threads that the child waits for.
    _COLLECTS = gc.isenabled()
    gc.disable()
    before_fork()


def _after_fork_in_parent() -> None:
    after_fork_in_parent()
    _collect_again()
    _LOCK.release()


def _after_fork_in_child() -> None:
    global _LOCK
    _LOCK = threading.RLock()
    leave_programs()
    _KEPT.clear()
    after_fork_in_child()
    _collect_again()


def _collect_again() -> None:
    if _COLLECTS:
        gc.enable()


if sys.platform != "win32":
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
