"""What a file of weights holds, as plain data: tensors that are read when asked for, and stubs for foreign objects."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch

from .errors import CheckpointError

TensorKind = Literal["dense", "sparse", "quantized", "nested", "meta"]

# A tensor may repeat what its storage holds (a stride of 0), up to this size. A larger one must be in the file.
_MOST_REPEATED_BYTES = 64 << 20


class Storage(Protocol):
    """Bytes of a file that tensors look into. Two handles share a storage if they hold the same object."""

    @property
    def nbytes(self) -> int:
        """The number of bytes that the storage has."""

    def read(self, start: int, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Read bytes of the storage, memory-mapped where that is possible.

        Args:
            start: the first byte.
            count: how many; the caller has checked that they are within the storage.
            dtype: of the numbers: the result is aligned for them, and in this machine's byte order.

        Returns:
            A one-dimensional tensor of uint8 that may be written to; the file stays as it is.

        Raises:
            CheckpointError: if the file is damaged there.
        """


@dataclass(frozen=True, eq=False, repr=False)
class TensorHandle:
    """A tensor of a file. Nothing of its values is read until `read()`.

    Args:
        dtype: of its values.
        shape: its sizes.
        kind: only "dense" tensors can be read.
        storage: where its values are; None if the kind is not "dense".
        offset: of the first value in the storage, in values.
        stride: the steps of each dimension, in values.
        conjugated: whether the storage holds the complex conjugate.
        negated: whether the storage holds the negative.
        name: of the file, for errors.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    kind: TensorKind = "dense"
    storage: Storage | None = None
    offset: int = 0
    stride: tuple[int, ...] = ()
    conjugated: bool = False
    negated: bool = False
    name: str = ""

    def __repr__(self) -> str:
        return f"TensorHandle({self.dtype}, {self.shape}, {self.kind!r})"

    @property
    def nbytes(self) -> int:
        """The bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def identity(self) -> Hashable:
        """Equal for two handles that are one tensor, as tied weights are."""
        owner = self if self.storage is None else self.storage
        return id(owner), self.dtype, self.offset, self.shape, self.stride, self.conjugated, self.negated

    def read(self) -> torch.Tensor:
        """Read the values.

        Returns:
            A tensor on the CPU, backed by the file where that is possible: keep the file in place. Writing to it does
            not change the file.

        Raises:
            CheckpointError: if it is no dense tensor, or the file is damaged.
        """
        if self.kind != "dense" or self.storage is None:
            raise CheckpointError(f"{self.name}: holds a {self.kind} tensor, which has no plain values to read")
        if self.nbytes > max(self.storage.nbytes, _MOST_REPEATED_BYTES):
            raise CheckpointError(
                f"{self.name}: holds a tensor of {self.nbytes:,} bytes in a storage of {self.storage.nbytes:,} bytes,"
                " which is refused; make it contiguous and save it again"
            )
        if not self.nbytes:
            return torch.empty(self.shape, dtype=self.dtype)
        size = self.dtype.itemsize
        last = sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict=True))
        values = self.storage.read(self.offset * size, (last + 1) * size, self.dtype)
        tensor = torch.empty(0, dtype=self.dtype)
        tensor.set_(values.untyped_storage(), values.storage_offset() // size, self.shape, self.stride)
        tensor = tensor.conj().resolve_conj() if self.conjugated else tensor
        return tensor.neg() if self.negated else tensor


@dataclass(eq=False, repr=False, slots=True)
class Stub:
    """An inert object in place of one whose class was not imported, or in place of a class or function itself.

    Args:
        name: of the class or function, as "argparse.Namespace".
        arguments: what it was called with.
        keywords: what it was called with by name.
        state: what the pickle gave as its state: mostly the dictionary of its attributes.
        items: the items of a list or set.
        entries: the entries of a dictionary (a subclass of dict may be the state dict).
        is_instance: false for the class or function itself.
    """

    name: str
    arguments: tuple[object, ...] = ()
    keywords: dict[str, object] = field(default_factory=dict)
    state: object = None
    items: list[object] = field(default_factory=list)
    entries: dict[object, object] = field(default_factory=dict)
    is_instance: bool = True

    def __repr__(self) -> str:
        return f"<{'stub of' if self.is_instance else 'stub for'} {self.name}>"


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoint:
    """What a file holds.

    Args:
        path: the file or folder.
        container: what it is, for people: "PyTorch zip", "PyTorch old format", "pickle", "TorchScript archive",
            "safetensors", "NumPy .npz", "folder of shards", "DeepSpeed folder", "distributed checkpoint folder".
        content: dict, list, tuple, set, frozenset, str, int, float, complex, bool, None, bytes, bytearray,
            `TensorHandle`, NumPy arrays and numbers of plain dtypes, and `Stub`, at any depth. It may contain itself:
            walk it without recursion, each object once.
        classes: names of the classes and functions that became stubs, sorted.
        pickles_read: the bytes of the file that were read to know its structure.
    """

    path: Path
    container: str
    content: object
    classes: tuple[str, ...] = ()
    pickles_read: int = 0

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {self.container!r})"
