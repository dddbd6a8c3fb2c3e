"""A file whose parts are read or mapped into memory, and are kept apart from what is changed later."""

import mmap
import os
import threading
import weakref
import zlib
from pathlib import Path
from typing import Protocol

import torch

from .errors import CheckpointError

_CHUNK = 1 << 20


class FileBytes(Protocol):
    """Bytes with a name: a file, or what a pickle holds in place of one. `path` is for errors."""

    path: Path
    size: int

    def read(self, start: int, count: int) -> bytes:
        """Read bytes, which may be fewer at the end."""

    def map(self) -> bytes | mmap.mmap:
        """All of the bytes."""

    def tensor(self, start: int, count: int, alignment: int) -> torch.Tensor:
        """Bytes as a tensor of uint8 that may be written to.

        Raises:
            CheckpointError: if they are not there.
        """


class MemoryFile:
    """Bytes that a pickle holds.

    Args:
        data: the bytes.
        path: the file around them.
    """

    def __init__(self, data: bytes, path: Path):
        self.data, self.path, self.size = data, path, len(data)

    def read(self, start: int, count: int) -> bytes:
        """See `FileBytes`."""
        return self.data[start : start + max(0, count)] if start >= 0 else b""

    def map(self) -> bytes:
        """See `FileBytes`."""
        return self.data

    def tensor(self, start: int, count: int, alignment: int) -> torch.Tensor:
        """A copy; see `FileBytes`."""
        if start < 0 or start + count > self.size:
            raise CheckpointError(f"{self.path}: damaged or truncated; copy or download it again")
        return torch.frombuffer(bytearray(self.data[start : start + count]), dtype=torch.uint8)


def crc32(file: FileBytes, start: int, count: int) -> int:
    """The CRC-32 of bytes, which are read without mapping them."""
    found, end = 0, start + count
    while start < end and (part := file.read(start, min(_CHUNK, end - start))):
        found = zlib.crc32(part, found)
        start += len(part)
    return found


class MappedFile:
    """A regular file, kept open as long as something looks into it. It is mapped as long as a tensor needs that.

    Args:
        path: of the file.

    Raises:
        CheckpointError: if it cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path):
        self.path = path
        if path.exists() and not path.is_file():  # a pipe or a device: opening might never end
            raise CheckpointError(f"{path}: not a regular file; copy it to one")
        try:
            self._file = path.open("rb", buffering=0)
            self.size = os.fstat(self._file.fileno()).st_size
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such file") from None
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror or error}") from None
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._map: weakref.ref[mmap.mmap] | None = None

    def read(self, start: int, count: int) -> bytes:
        """Read bytes, which may be fewer at the end of the file."""
        count = min(count, self.size - start)
        if start < 0 or count <= 0:
            return b""
        try:
            with self._lock:
                self._file.seek(start)
                parts = []
                while count and (part := self._file.read(count)):  # an unbuffered file may give less than is asked for
                    parts.append(part)
                    count -= len(part)
        except OSError as error:
            raise CheckpointError(f"{self.path}: {error.strerror or error}") from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def map(self) -> mmap.mmap:
        """The whole file in memory. What is written there is private to this process."""
        mapped = self._map() if self._map is not None else None
        if mapped is None:
            try:
                mapped = mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_COPY)
            except (OSError, ValueError) as error:  # ValueError: the file became shorter
                raise CheckpointError(f"{self.path}: cannot be mapped into memory ({error})") from None
            self._map = weakref.ref(mapped)
        return mapped

    def tensor(self, start: int, count: int, alignment: int) -> torch.Tensor:
        """Bytes as a tensor of uint8: mapped if they lie in the file as the processor needs them, else copied."""
        if start < 0 or start + count > self.size:
            raise CheckpointError(f"{self.path}: damaged or truncated; copy or download it again")
        if not count:
            return torch.empty(0, dtype=torch.uint8)
        if start % alignment:
            return torch.frombuffer(bytearray(self.read(start, count)), dtype=torch.uint8)
        return torch.frombuffer(self.map(), dtype=torch.uint8, count=count, offset=start)
