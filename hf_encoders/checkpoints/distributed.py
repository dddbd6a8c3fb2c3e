"""Folders of torch.distributed.checkpoint (FSDP): `.metadata` says which chunk of which tensor is where.

Each chunk is what `torch.save` wrote, at a place of a `.distcp` file. A tensor is put together when it is asked for.
Source: `torch/distributed/checkpoint/metadata.py` and `filesystem.py`.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from .checkpoint import Stub, TensorHandle
from .errors import CheckpointError
from .mapped_file import FileBytes, MappedFile
from .pickles.limits import Limits
from .pickles.tensors import DtypeName, contiguous
from .torch_files import Content, read_pickles, read_zip
from .zip_records import ZipRecords

METADATA = ".metadata"


class FilePart:
    """A part of a file, which is a file by itself.

    Args:
        file: that has the part.
        start: its first byte.
        size: its length.
    """

    def __init__(self, file: FileBytes, start: int, size: int):
        self.file, self.start, self.size, self.path = file, start, size, file.path

    def read(self, start: int, count: int) -> bytes:
        """See `FileBytes`."""
        return self.file.read(self.start + start, min(count, self.size - start)) if start >= 0 else b""

    def map(self) -> bytes:
        """See `FileBytes`."""
        return self.read(0, self.size)

    def tensor(self, start: int, count: int, alignment: int) -> torch.Tensor:
        """See `FileBytes`."""
        if start < 0 or start + count > self.size:
            raise CheckpointError(f"{self.path}: damaged or truncated; copy or download it again")
        return self.file.tensor(self.start + start, count, alignment)


@dataclass(frozen=True)
class Chunk:
    """A part of a tensor, or something that is no tensor.

    Args:
        part: where it is.
        offsets: of its first value in the tensor.
        sizes: its shape.
    """

    part: FilePart
    offsets: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where the metadata says that a chunk is: its first value in the tensor, and its bytes in a file."""

    offsets: tuple[int, ...]
    file: str
    start: int
    size: int

    def part(self, reader: "_Reader") -> FilePart:
        """The bytes."""
        return reader.part(self.file, self.start, self.size)


class ChunkedStorage:
    """A contiguous tensor that lies in chunks.

    Args:
        chunks: its parts, which fill it.
        shape: of the tensor.
        dtype: of its values.
    """

    def __init__(self, chunks: list[Chunk], shape: tuple[int, ...], dtype: torch.dtype):
        self.chunks, self.shape, self.dtype = chunks, shape, dtype
        self.nbytes = dtype.itemsize
        for size in shape:
            self.nbytes *= size

    def read(self, start: int, count: int, dtype: torch.dtype) -> torch.Tensor:
        """The bytes of the whole tensor; see `Storage`."""
        if len(self.chunks) == 1:
            values = self._read(self.chunks[0]).contiguous()
        else:
            values = torch.zeros(self.shape, dtype=self.dtype)
            filled = torch.zeros(self.shape, dtype=torch.bool)
            for chunk in self.chunks:
                corners = zip(chunk.offsets, chunk.sizes, strict=True)
                place = tuple(slice(first, first + size) for first, size in corners)
                values[place] = self._read(chunk)
                filled[place] = True
            if not filled.all():
                raise _damaged(self.chunks[0].part.path, "the parts of a tensor do not fill it")
        return values.reshape(-1).view(torch.uint8)[start : start + count]

    def _read(self, chunk: Chunk) -> torch.Tensor:
        handle = _read_part(chunk.part, Limits(chunk.part.path)).value
        if not isinstance(handle, TensorHandle) or handle.shape != chunk.sizes or handle.dtype != self.dtype:
            raise _damaged(chunk.part.path, "a chunk is not what the metadata says")
        return handle.read()


def read_distributed(folder: Path, limits: Limits) -> Content:
    """Read the metadata of a folder.

    Raises:
        CheckpointError: if it is damaged, or a file of it is missing.
    """
    metadata = MappedFile(folder / METADATA)
    if not metadata.size:
        raise _damaged(metadata.path, "it is empty")
    content = read_pickles(metadata, limits)
    match content.value:
        case Stub(state={"state_dict_metadata": dict() as entries, "storage_data": dict() as places, **others}):
            pass
        case _:
            raise _damaged(metadata.path, "it is not the metadata of torch.distributed.checkpoint")
    reader = _Reader(folder, _places(metadata.path, places), limits)
    flat = {str(name): reader.value(str(name), entry) for name, entry in entries.items()}
    classes = content.classes.difference(
        name for name in content.classes if name.startswith(("torch.distributed.", "pathlib."))
    )
    value = _nested(flat, others.get("planner_data"))
    bytes_read = content.bytes_read + reader.bytes_read
    return Content("distributed checkpoint folder", value, classes | reader.classes, bytes_read)


class _Reader:
    """Makes values of their metadata."""

    def __init__(self, folder: Path, places: dict[str, list[Place]], limits: Limits):
        self.folder, self.places, self.limits = folder, places, limits
        self.classes: set[str] = set()
        self.bytes_read = 0
        self._files: dict[str, MappedFile] = {}
        self._contents: dict[Place, Content] = {}

    def value(self, name: str, entry: object) -> object:
        """A handle of a tensor, or what stands in place of one."""
        state = entry.state if isinstance(entry, Stub) else None
        places = self.places.get(name, [])
        if not isinstance(state, dict) or "chunks" not in state:
            if len(places) != 1:
                raise _damaged(self.folder, f"{name!r} is not where the metadata says")
            content = self._contents.get(places[0])
            if content is None:  # a part that stands for several names is read once
                content = self._contents[places[0]] = _read_part(places[0].part(self), self.limits)
                self.classes |= content.classes
                self.bytes_read += content.bytes_read
            return content.value
        return self._tensor(name, state, {place.offsets: place.part(self) for place in places})

    def _tensor(self, name: str, state: dict[object, object], parts: dict[tuple[int, ...], FilePart]) -> TensorHandle:
        properties, shape, listed = state.get("properties"), _ints(state.get("size")), state["chunks"]
        told = properties.state if isinstance(properties, Stub) else None
        dtype = told[0] if isinstance(told, tuple) and told else told.get("dtype") if isinstance(told, dict) else None
        stride = None if shape is None else contiguous(shape)
        if not isinstance(dtype, DtypeName) or shape is None or stride is None or not isinstance(listed, list):
            raise _damaged(self.folder, f"{name!r} has strange sizes")
        chunks = []
        for chunk in listed:
            inner = chunk.state if isinstance(chunk, Stub) and isinstance(chunk.state, dict) else {}
            offsets, sizes = _ints(inner.get("offsets")), _ints(inner.get("sizes"))
            if offsets is None or sizes is None or not len(offsets) == len(sizes) == len(shape) or offsets not in parts:
                raise _damaged(self.folder, f"a part of {name!r} is not where the metadata says")
            if any(first + size > whole for first, size, whole in zip(offsets, sizes, shape, strict=True)):
                raise _damaged(self.folder, f"a part of {name!r} reaches beyond it")
            chunks.append(Chunk(parts[offsets], offsets, sizes))
        _check_whole(self.folder, name, shape, chunks)
        storage = ChunkedStorage(chunks, shape, dtype.dtype)
        if storage.nbytes > sum({(chunk.part.path, chunk.part.start): chunk.part.size for chunk in chunks}.values()):
            raise _damaged(self.folder, f"{name!r} is larger than its parts")
        return TensorHandle(dtype.dtype, shape, "dense", storage, 0, stride, name=str(self.folder))

    def part(self, relative: str, start: int, size: int) -> FilePart:
        """A part of a file of the folder."""
        if relative not in self._files:
            if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts or "\\" in relative:
                raise CheckpointError(f"{self.folder}: its metadata names a file outside of the folder; it is refused")
            self._files[relative] = MappedFile(self.folder / relative)
        file = self._files[relative]
        if start < 0 or size < 0 or start + size > file.size:
            raise _damaged(file.path, "a part reaches beyond it")
        return FilePart(file, start, size)


def _read_part(part: FilePart, limits: Limits) -> Content:
    records = ZipRecords(part)
    names = [name for name in records.records if name.endswith("data.pkl")]
    if len(names) != 1:
        raise _damaged(part.path, "a part is not what torch.save wrote")
    return read_zip(part, records, names[0], limits)


def _check_whole(folder: Path, name: str, shape: tuple[int, ...], chunks: list[Chunk]) -> None:
    """Refuse chunks that do not fill their tensor: each value must come from one of them."""
    if len(set(chunk.offsets for chunk in chunks)) != len(chunks):
        raise _damaged(folder, f"two parts of {name!r} begin at one place")
    volume = 0
    for chunk in chunks:
        count = 1
        for size in chunk.sizes:
            count *= size
        volume += count
    whole = 1
    for size in shape:
        whole *= size
    if volume != whole:
        raise _damaged(folder, f"the parts of {name!r} do not fill it")


def _places(path: Path, data: dict[object, object]) -> dict[str, list[Place]]:
    """Name → the parts in files: offsets in the tensor, file, first byte, length."""
    found: dict[str, list[Place]] = {}
    for index, info in data.items():
        match index, info:
            case (
                Stub(state={"fqn": str() as name, **about}),
                Stub(state={"relative_path": str() as file, "offset": int() as start, "length": int() as size, **more}),
            ):
                if more.get("transform_descriptors") is not None:
                    raise CheckpointError(f"{path}: its parts are compressed by an extension, which is not read")
                found.setdefault(name, []).append(Place(_ints(about.get("offset")) or (), file, start, size))
            case _:
                raise _damaged(path, "an entry is strange")
    return found


def _ints(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, (tuple, list)) or any(type(size) is not int or size < 0 for size in value):
        return None
    return tuple(value)


def _nested(flat: dict[str, object], paths: object) -> object:
    """Dictionaries in dictionaries, as they were when they were saved; flat if the metadata does not tell that."""
    root: dict[object, object] = {}
    for name, value in flat.items():
        path = paths.get(name) if isinstance(paths, dict) else None
        if not isinstance(path, tuple) or not path or not all(type(key) in (str, int) for key in path):
            return flat
        inner: object = root
        for key in path[:-1]:
            inner = inner.setdefault(key, {}) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or path[-1] in inner:
            return flat
        inner[path[-1]] = value
    return root


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path}: a damaged checkpoint of torch.distributed.checkpoint ({why}); copy it again")
