"""NumPy's .npz archives: arrays of numbers become handles of tensors, others arrays and lists."""

import math
import re

import numpy as np
import torch

from .checkpoint import TensorHandle
from .errors import CheckpointError
from .mapped_file import FileBytes, MemoryFile
from .pickles.limits import Limits
from .pickles.tensors import contiguous
from .storages import RecordStorage
from .torch_files import Content, read_pickles
from .zip_records import ZipRecords

_MAGIC = b"\x93NUMPY"
_LARGEST_HEADER = 1 << 16
_STRING = 64  # bytes that a text takes at least
_HEADER = re.compile(
    r"\{'descr': '([<>|=]?)(\w+)', 'fortran_order': (True|False), 'shape': \(([\d, ]{0,900})\),? *\}\s*"
)
_PLAIN = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)")
_STRINGS = re.compile(r"([SU])(\d{1,9})")


def is_npz(records: ZipRecords) -> bool:
    """Whether an archive holds arrays alone."""
    return bool(records.records) and all(name.endswith(".npy") for name in records.records)


def read_npz(file: FileBytes, records: ZipRecords, limits: Limits) -> Content:
    """Read the headers of an archive's arrays.

    Raises:
        CheckpointError: if one is damaged.
    """
    classes: set[str] = set()
    value: dict[object, object] = {
        name.removesuffix(".npy"): _array(file, records, name, limits, classes) for name in records.records
    }
    return Content("NumPy .npz", value, frozenset(classes), records.bytes_read)


def _array(file: FileBytes, records: ZipRecords, name: str, limits: Limits, classes: set[str]) -> object:
    head = records.head(name, 12)
    wide = head[6:7] in (b"\2", b"\3")
    length = int.from_bytes(head[8:12] if wide else head[8:10], "little")
    start = (12 if wide else 10) + length
    if not head.startswith(_MAGIC) or length > _LARGEST_HEADER:
        raise _damaged(file, name)
    header = records.head(name, start)[12 if wide else 10 :].decode("latin-1")
    described = _HEADER.fullmatch(header)
    if not described:
        raise CheckpointError(f"{file.path}: {name} is an array of records or another kind, which no weights are")
    order, kind, fortran, sizes = described.groups()
    shape = tuple(int(size) for size in sizes.replace(" ", "").split(",") if size)
    if kind == "O":
        _allow(records, name, limits)
        content = read_pickles(MemoryFile(records.read(name)[start:], file.path), limits, depth=1)
        classes |= content.classes
        return content.value
    stride = contiguous(shape, fortran == "True")
    if stride is None:
        raise _damaged(file, name)
    if _PLAIN.fullmatch(kind):
        return _tensor(file, records, name, start, kind, "big" if order == ">" else "little", shape, stride)
    if _STRINGS.fullmatch(kind):
        _allow(records, name, limits)
        limits.charge(_STRING * math.prod(shape))
        return _strings(file, records, name, start, order + kind, shape)
    raise CheckpointError(f"{file.path}: {name} is an array of {kind}, which no weights are")


def _tensor(
    file: FileBytes,
    records: ZipRecords,
    name: str,
    start: int,
    kind: str,
    order: str,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
) -> TensorHandle:
    dtype = torch.from_numpy(np.empty(0, kind)).dtype
    size = records.records[name].size
    handle = TensorHandle(
        dtype,
        shape,
        "dense",
        RecordStorage(records, name, size, order),
        start // dtype.itemsize,
        stride,
        name=str(file.path),
    )
    if start + handle.nbytes != size or start % dtype.itemsize:
        raise _damaged(file, name)
    return handle


def _strings(file: FileBytes, records: ZipRecords, name: str, start: int, dtype: str, shape: tuple[int, ...]) -> object:
    data = records.read(name)[start:]
    try:
        # Letters beyond Unicode are refused by decoding them.
        return np.frombuffer(data, dtype).reshape(shape).tolist()
    except ValueError:
        raise _damaged(file, name) from None


def _allow(records: ZipRecords, name: str, limits: Limits) -> None:
    """Allow for what the record takes in the file, not for what it may be inflated to."""
    limits.allow(min(records.records[name].size, 8 * records.records[name].compressed))


def _damaged(file: FileBytes, name: str) -> CheckpointError:
    return CheckpointError(f"{file.path}: damaged or truncated ({name} is no array); copy or download it again")
