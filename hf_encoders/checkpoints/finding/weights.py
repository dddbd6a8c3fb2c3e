"""One weight of a file, a tensor or an array of NumPy, whose values are read when they are asked for."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import TensorHandle, TensorKind
from ..errors import LayoutError

# NumPy's kinds of numbers: booleans, integers, floats, complex numbers. Arrays of strings are no weights.
_NUMBERS = "biufc"
# Kind of a tensor without plain values → what it is, and what to do.
_OTHER_KINDS: dict[TensorKind, str] = {
    "sparse": "a sparse tensor, expected a dense one; save the result of its to_dense()",
    "quantized": "a quantised tensor, expected a dense one; choose the checkpoint from before the quantisation",
    "meta": "an empty tensor (of the meta device), expected a dense one; choose a file that holds the values",
}


class Weight(Protocol):
    """A tensor of a file, as far as it is known without its values; see `TensorHandle`."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of its values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    @property
    def kind(self) -> TensorKind:
        """Only "dense" ones can be read."""

    @property
    def nbytes(self) -> int:
        """The bytes of its values."""

    @property
    def identity(self) -> Hashable:
        """Equal for two that are one tensor."""

    def read(self) -> Tensor:
        """Read the values."""


class TensorWeight:
    """A tensor in memory as a weight: one that the conversion made, such as a counter that the file lacks."""

    def __init__(self, tensor: Tensor):
        self._tensor = tensor.detach()
        self.dtype, self.shape = tensor.dtype, tuple(tensor.shape)
        self.nbytes = tensor.numel() * tensor.dtype.itemsize
        self.kind: TensorKind = (
            "meta"
            if tensor.is_meta
            else "quantized"
            if tensor.is_quantized
            else "dense"
            if tensor.layout == torch.strided
            else "sparse"
        )

    @property
    def identity(self) -> Hashable:
        """Equal for two views of the same values."""
        if self.kind != "dense":
            return id(self._tensor)
        place = self._tensor.data_ptr() or id(self._tensor)
        return place, self.dtype, self.shape, self._tensor.stride()

    def read(self) -> Tensor:
        """The tensor."""
        return self._tensor


class ArrayWeight:
    """An array of NumPy as a weight.

    Raises:
        TypeError: if torch has no type for its numbers.
    """

    kind: TensorKind = "dense"

    def __init__(self, array: np.ndarray):
        self._array = array
        native = np.empty(0, array.dtype.newbyteorder("="))
        self.dtype, self.shape, self.nbytes = torch.from_numpy(native).dtype, array.shape, array.nbytes

    @property
    def identity(self) -> Hashable:
        """Equal for the same array."""
        return id(self._array)

    def read(self) -> Tensor:
        """The numbers, in this machine's byte order."""
        array = self._array
        return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))


def as_weight(value: object) -> Weight | None:
    """The weight that a value of a file is; None for everything else."""
    if isinstance(value, TensorHandle):
        return value
    if isinstance(value, Tensor):
        return TensorWeight(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in _NUMBERS:
        try:
            return ArrayWeight(value)
        except TypeError:  # a type that torch lacks, such as a float of 16 bytes
            return None
    return None


class LazyTensors(Mapping[str, Tensor]):
    """Name → tensor; each is read when it is first asked for, and kept.

    Args:
        path: the file, for errors.
        weights: name → weight.
        change: what becomes of a tensor after it was read, by its name.

    Raises:
        LayoutError: at a look-up, for a weight that is no dense tensor.
        CheckpointError: at a look-up, if the file is damaged there.
    """

    def __init__(
        self, path: object, weights: Mapping[str, Weight], change: Callable[[str, Tensor], Tensor] | None = None
    ):
        self._path, self._weights, self._change = path, dict(weights), change
        self._read: dict[str, Tensor] = {}
        self._first: dict[Hashable, str] = {}
        for name, weight in self._weights.items():
            self._first.setdefault(weight.identity, name)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._read:
            weight = self._weights[name]
            if weight.kind != "dense":
                raise LayoutError(f"{self._path}: {name} is {_OTHER_KINDS[weight.kind]}")
            tensor = weight.read().detach()
            tensor = self._change(name, tensor) if self._change else tensor
            # Tied tensors are written under every name; safetensors takes no memory twice.
            self._read[name] = tensor if self._first[weight.identity] == name else tensor.clone()
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def only(self, prefixes: tuple[str, ...]) -> "LazyTensors":
        """Those whose names begin with one of the prefixes; what was read is not read again."""
        chosen = {name: weight for name, weight in self._weights.items() if name.startswith(prefixes)}
        return self._sharing(chosen)

    def plus(self, tensors: Mapping[str, Tensor]) -> "LazyTensors":
        """These and others, which are in memory."""
        return self._sharing(self._weights | {name: TensorWeight(tensor) for name, tensor in tensors.items()})

    def _sharing(self, weights: Mapping[str, Weight]) -> "LazyTensors":
        other = LazyTensors(self._path, weights, self._change)
        other._read = self._read
        return other
