"""Towers that are compiled for the CPU: once for their weights, and again when the weights are others."""

import threading
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

from torch import nn
from torch.export import ExportedProgram

from ..models.backend import Backend
from ..models.tower import Tower
from .exported_files import exported_file
from .onnx_backend import OnnxBackend
from .openvino_backend import OpenVinoBackend
from .programs import export_tower


class _BackendClass(Protocol):
    def __call__(self, source: ExportedProgram | Path, names: tuple[str, ...], precision: str) -> Backend: ...


BACKENDS: dict[str, _BackendClass] = {"onnx": OnnxBackend, "openvino": OpenVinoBackend}
_PRECISIONS = {"onnx": ("float32", "int8"), "openvino": ("float32", "bfloat16", "int8")}

# Where each weight lies, and how often it was changed in place.
_Weights = list[tuple[int, int]]
# Model → tower, backend and precision → the weights that it was compiled from, and the backend. The models are held
# weakly: a program goes when its model goes, and a copy of a model compiles its own.
_KEPT: "WeakKeyDictionary[nn.Module, dict[tuple[str, str, str], tuple[_Weights, Backend]]]" = WeakKeyDictionary()
_LOCK = threading.Lock()


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
    key = tower.name, backend, precision
    with _LOCK:  # also around the weights: while another thread exports them, they are stand-ins without memory
        weights = [(tensor.data_ptr(), tensor._version) for tensor in tower.model.state_dict(keep_vars=True).values()]
        kept = _KEPT.setdefault(tower.model, {})
        made_of, program = kept.get(key, (None, None))
        if program is None or made_of != weights:
            program = _compile(tower, backend, precision)
            kept[key] = weights, program
    return program


def _compile(tower: Tower, backend: str, precision: str) -> Backend:
    try:
        source = exported_file(tower.model, backend, tower.name, precision) or export_tower(tower)
        return BACKENDS[backend](source, tower.input_names, precision)
    except ModuleNotFoundError as error:
        raise ImportError(f"backend={backend!r} needs: pip install 'hf-encoders[export]' ({error})") from error
