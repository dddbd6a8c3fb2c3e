"""Storages: the bytes of tensors in a file or in memory, read in this machine's byte order."""

import sys

import torch

from .errors import CheckpointError
from .mapped_file import FileBytes
from .zip_records import ZipRecords


class RecordStorage:
    """A storage that is a record of a zip archive.

    Args:
        records: the archive.
        name: of the record.
        nbytes: its size.
        order: "little" or "big", the order of its numbers' bytes.
    """

    def __init__(self, records: ZipRecords, name: str, nbytes: int, order: str = "little"):
        self.records, self.name, self.nbytes, self.order = records, name, nbytes, order

    def read(self, start: int, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Bytes of the record; see `Storage`."""
        return in_order(self.records.tensor(self.name, start, count, dtype.itemsize), dtype, self.order)


class FileStorage:
    """A storage that is a part of a file. `start` is set when it is known.

    Args:
        file: that has it.
        nbytes: its size.
        start: its first byte.
    """

    def __init__(self, file: FileBytes, nbytes: int, start: int | None = None):
        self.file, self.nbytes, self.start = file, nbytes, start

    def read(self, start: int, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Bytes of the file; see `Storage`."""
        if self.start is None:
            raise CheckpointError(f"{self.file.path}: damaged or truncated (a storage is missing)")
        return in_order(self.file.tensor(self.start + start, count, dtype.itemsize), dtype, "little")


class MemoryStorage:
    """A storage whose bytes are in memory, as those of a pickle.

    Args:
        data: the bytes, in this machine's order.
    """

    def __init__(self, data: bytes):
        self.data, self.nbytes = data, len(data)

    def read(self, start: int, count: int, dtype: torch.dtype) -> torch.Tensor:
        """A copy of bytes; see `Storage`."""
        return torch.frombuffer(bytearray(self.data[start : start + count]), dtype=torch.uint8)


def in_order(values: torch.Tensor, dtype: torch.dtype, order: str) -> torch.Tensor:
    """Bytes in this machine's order, as a copy if they are not."""
    width = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    if order == sys.byteorder or width == 1:
        return values
    return values.reshape(-1, width).flip(1).reshape(-1)
