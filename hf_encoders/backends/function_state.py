"""What a compiled program was made of, and whether it is that still.

A program stands for a function: the weights of a model, and all else that its `forward` reads: its modules and their
plain attributes (the scale of an adapter, which adapter is active), configurations, hooks, methods that were replaced.
"""

import enum
import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from operator import itemgetter
from pathlib import PurePath
from typing import Any, Literal, Protocol
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import PushToHubMixin

from ..models.tower import Tower
from .kept_tensors import KeptTensor

Change = Literal["none", "settings", "weights"]

_PLAIN = (
    bool, int, float, complex, str, bytes, types.NoneType, enum.Enum, type, PurePath, np.generic, np.dtype,
    torch.dtype, torch.device, torch.layout, torch.memory_format,
)  # fmt: skip
_LISTS = (list, tuple, torch.Size)
_SETS = (set, frozenset)
# Deeper containers are taken as they are.
_DEEPEST = 10
# Programs are compiled in evaluation mode, and `encode` computes in it.
_WITHOUT_EFFECT = {"training"}


class FunctionState:
    """What a tower computes, at one time. It holds the model and its parts weakly.

    Args:
        tower: as it is now.
    """

    def __init__(self, tower: Tower):
        self._objects: dict[int, _Object] = {}
        self._function = self._token(tower.function)
        self._model = self._token(tower.model)

    def change(self, tower: Tower) -> Change:
        """What has changed since: nothing, the weights, or something else, whichever is seen first."""
        change = self._function.change(tower.function) or self._model.change(tower.model)
        if change:
            return change
        for kept in self._objects.values():
            if change := kept.change():
                return change
        return "none"

    def _token(self, value: object, depth: int = 0) -> "_Token":
        """What tells whether a value is the same later; the parts of an object are looked at once for all."""
        if isinstance(value, Tensor):
            return _TensorToken(value)
        if is_plain(value) or depth > _DEEPEST:
            return _PlainToken(copied(value)) if is_plain(value) else _Same(value)
        if isinstance(value, Mapping):
            return _MappingToken(value, {key: self._token(each, depth + 1) for key, each in value.items()})
        if isinstance(value, _LISTS):
            return _ListToken([self._token(each, depth + 1) for each in value])
        if isinstance(value, types.MethodType):
            return _MethodToken(self._token(value.__func__, depth + 1), self._token(value.__self__, depth + 1))
        if isinstance(value, np.ndarray):
            return _ArrayToken(value)
        self._look_at(value, depth)
        return _Same(value)

    def _look_at(self, value: object, depth: int) -> None:
        read = _reader(value)
        if read is None or id(value) in self._objects:
            return
        kept = self._objects[id(value)] = _Object(value, read)  # before its parts, which may refer to it
        kept.parts = [
            (key, self._token(part, depth + 1 if not isinstance(value, nn.Module) else 0))
            for key, part in read(value).items()
            if key not in _WITHOUT_EFFECT and not is_plain(part)
        ]


_Found = Literal["settings", "weights", ""]


class _Token(Protocol):
    def change(self, value: Any) -> _Found:
        """What has changed; an empty string for nothing."""


class _Same:
    """The very same object."""

    def __init__(self, value: object):
        self._get: Callable[[], object]
        try:
            self._get = ref(value)
        except TypeError:  # has no weak references
            self._get = lambda: value

    def change(self, value: Any) -> _Found:
        return "" if self._get() is value else "settings"


class _TensorToken:
    def __init__(self, tensor: Tensor):
        self._kept = KeptTensor(tensor)

    def change(self, value: Any) -> _Found:
        return "" if self._kept.is_same(value) else "weights"


class _ArrayToken:
    def __init__(self, array: "np.ndarray[Any, Any]"):
        self._same, self._values = _Same(array), array.tobytes()

    def change(self, value: Any) -> _Found:
        return self._same.change(value) or ("" if value.tobytes() == self._values else "weights")


class _PlainToken:
    def __init__(self, value: object):
        self._value = value

    def change(self, value: Any) -> _Found:
        return "" if is_plain(value) and value == self._value else "settings"


class _MappingToken:
    def __init__(self, mapping: Mapping[Any, object], tokens: Mapping[Any, _Token]):
        self._type, self._tokens = type(mapping), tokens

    def change(self, value: Any) -> _Found:
        if type(value) is not self._type or value.keys() != self._tokens.keys():
            return "settings"
        return next((found for key, token in self._tokens.items() if (found := token.change(value[key]))), "")


class _ListToken:
    def __init__(self, tokens: list[_Token]):
        self._tokens = tokens

    def change(self, value: Any) -> _Found:
        if not isinstance(value, _LISTS) or len(value) != len(self._tokens):
            return "settings"
        changes = (token.change(each) for token, each in zip(self._tokens, value, strict=True))
        return next((found for found in changes if found), "")


class _MethodToken:
    """A bound method, which is a new object each time that it is asked for."""

    def __init__(self, function: _Token, owner: _Token):
        self._function, self._owner = function, owner

    def change(self, value: Any) -> _Found:
        if not isinstance(value, types.MethodType):
            return "settings"
        return self._function.change(value.__func__) or self._owner.change(value.__self__)


class _Object:
    """A module, a configuration or a function, and what it is made of.

    The plain attributes, which are most, are compared at once.
    """

    def __init__(self, value: object, read: "_Read"):
        self._ref = ref(value)
        self._type, self._read = type(value), read
        self._forward = _forward(self._type)
        state = read(value)
        self._size = len(state)
        keys = [key for key, part in state.items() if key not in _WITHOUT_EFFECT and is_plain(part)]
        # With two keys at least, itemgetter returns a tuple.
        self._plain_of = itemgetter(*keys) if len(keys) > 1 else lambda state: tuple(state[key] for key in keys)
        self._plain = tuple(copied(state[key]) for key in keys)
        self.parts: list[tuple[str, _Token]] = []

    def change(self) -> _Found:
        value = self._ref()
        if type(value) is not self._type or _forward(self._type) is not self._forward:
            return "settings"
        state = self._read(value)
        try:
            if len(state) != self._size or self._plain_of(state) != self._plain:
                return "settings"
            return next((found for key, token in self.parts if (found := token.change(state[key]))), "")
        except (KeyError, ValueError, RuntimeError):  # it is gone, or an array or tensor now, which == does not compare
            return "settings"


# An object → what it is made of.
_Read = Callable[[Any], dict[str, Any]]


def _reader(value: object) -> _Read | None:
    """How to look into an object; None for those that are taken as a whole, processors among them."""
    if isinstance(value, types.FunctionType):
        return _read_function
    if isinstance(value, functools.partial):
        return _read_partial
    if isinstance(value, (nn.Module, PreTrainedConfig, types.SimpleNamespace)):
        return vars
    is_instance = hasattr(value, "__dict__") and not isinstance(value, (types.ModuleType, PushToHubMixin))
    return vars if is_instance and (callable(value) or is_dataclass(value)) else None


def _read_function(function: types.FunctionType) -> dict[str, Any]:
    state: dict[str, Any] = {"defaults": function.__defaults__, "keyword defaults": function.__kwdefaults__}
    state["code"] = function.__code__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            state[f"closure {name}"] = cell.cell_contents
        except ValueError:  # empty
            continue
    return state


def _read_partial(partial: "functools.partial[Any]") -> dict[str, Any]:
    return {"function": partial.func, "arguments": partial.args, "keywords": partial.keywords}


def _forward(cls: type) -> object:
    return getattr(cls, "forward", None)


def is_plain(value: object) -> bool:
    """Whether a value is data that `==` compares: a number, a string, a list of them, ..."""
    if isinstance(value, _PLAIN):
        return True
    if type(value) in _LISTS or type(value) in _SETS:
        return all(is_plain(each) for each in value)  # type: ignore[attr-defined]
    return isinstance(value, dict) and all(is_plain(key) and is_plain(each) for key, each in value.items())


def copied(value: Any) -> Any:
    """Plain data, its lists and dictionaries copied."""
    if type(value) in _LISTS:
        return type(value)(copied(each) for each in value)
    if type(value) in _SETS:
        return type(value)(value)
    return {key: copied(each) for key, each in value.items()} if isinstance(value, dict) else value
