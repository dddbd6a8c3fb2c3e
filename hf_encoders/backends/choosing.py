"""`backend="auto"`: which backend embeds some inputs soonest on this machine, found by trying."""

import logging as levels
import time
from importlib.util import find_spec
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.utils import logging

from ..models.backend import Backend, get_backend, input_device
from ..models.concurrency import evaluating
from ..models.encoding import BackendName
from ..models.input_errors import one_line
from ..models.tower import Tower
from .exported_files import random_batch

logger = logging.get_logger(__name__)

# The faster first, where both are installed.
_COMPILED: tuple[BackendName, ...] = ("openvino", "onnx")
# Compiling takes some seconds, up to 20: with less work than this it cannot pay, and is not tried.
_LEAST_SECONDS = 60.0
_FEW_INPUTS = 200
# A compiled program that is hardly faster is not worth other last digits.
_LEAST_GAIN = 1.1
_BATCH = 16
_TRIES = 2


class Choice(NamedTuple):
    """A backend, and how many times as fast as PyTorch it was when it was tried; 1 for PyTorch itself."""

    backend: BackendName
    gain: float = 1.0


# Model → tower → what was found. A model whose weights change is as fast as before.
_FOUND: "WeakKeyDictionary[nn.Module, dict[str, Choice]]" = WeakKeyDictionary()


def choose_backend(tower: Tower, inputs: int | None) -> Choice:
    """Choose among PyTorch and the compiled backends that are installed; all compute in float32.

    A compiled program is tried where PyTorch alone would take a minute or more, so that the trial costs little of what
    it may save.

    Args:
        tower: as it is now.
        inputs: how many there are to embed; None for unknown, which is taken for many.
    """
    installed = next((name for name in _COMPILED if find_spec(_module(name))), None)
    model = tower.model
    if installed is None or input_device(model).type != "cpu" or model.dtype != torch.float32:
        return Choice("torch")
    if inputs is not None and inputs < _FEW_INPUTS:
        return Choice("torch")
    found = _FOUND.setdefault(model, {})
    if tower.name not in found:
        try:
            seconds = _seconds(tower, get_backend(tower), 2)
        except Exception:  # it has no processor, or takes no tensors: what it is given will tell
            return Choice("torch")
        if inputs is not None and inputs * seconds < _LEAST_SECONDS:
            return Choice("torch")
        found[tower.name] = _try(tower, installed)
    return found[tower.name]


def choice_of(tower: Tower) -> Choice:
    """What was chosen for a tower in this process, if anything was tried; else PyTorch."""
    return _FOUND.get(tower.model, {}).get(tower.name, Choice("torch"))


def _try(tower: Tower, backend: BackendName) -> Choice:
    try:
        program = get_backend(tower, backend)
        gain = _seconds(tower, get_backend(tower), _BATCH) / _seconds(tower, program, _BATCH)
    except Exception as error:  # converters raise what they like of networks that they cannot convert
        reason = f"{type(error).__name__}: {one_line(error)}"
        logger.warning("backend='auto': %s cannot compile this network (%s); PyTorch computes it", backend, reason)
        return Choice("torch")
    logger.log(levels.INFO, "backend='auto': %s is %.2f times as fast as PyTorch", backend, gain)
    return Choice(backend, gain) if gain >= _LEAST_GAIN else Choice("torch")


def _seconds(tower: Tower, backend: Backend, count: int) -> float:
    """The least time that an input took, of some tries."""
    size = min(count, backend.max_batch or count)
    batch = random_batch(tower, size)
    taken = []
    with torch.inference_mode(), evaluating(tower.model):
        for _ in range(_TRIES):
            start = time.perf_counter()
            for _ in backend.embed(iter([(range(size), batch)])):
                pass
            taken.append(time.perf_counter() - start)
    return min(taken) / size


def _module(backend: BackendName) -> str:
    return "onnxruntime" if backend == "onnx" else backend
