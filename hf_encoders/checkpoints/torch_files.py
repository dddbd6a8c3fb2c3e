"""What `torch.save` writes: the zip format, the old format of several pickles, and a pickle of tensors alone."""

from dataclasses import dataclass

from .checkpoint import Storage, Stub, TensorHandle
from .errors import CheckpointError
from .mapped_file import FileBytes, MemoryFile
from .pickles.constructors import find
from .pickles.limits import Limits
from .pickles.machine import Arguments, Constructor, Keywords, PickleMachine
from .pickles.pickle_bytes import PickleBytes
from .pickles.tensors import StorageClass
from .storages import FileStorage, RecordStorage
from .structure import walk
from .zip_records import ZipRecords

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# A tensor that was pickled without torch.save holds the bytes of its storage, saved. Nothing nests deeper.
_MOST_DEPTH = 2
_MODULE_STATE = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True)
class Content:
    """What pickles hold: the value, the classes that became stubs, and how many bytes were read."""

    container: str
    value: object
    classes: frozenset[str]
    bytes_read: int


def read_zip(file: FileBytes, records: ZipRecords, pickle_name: str, limits: Limits, depth: int = 0) -> Content:
    """Read the zip format, or the tensors of a TorchScript archive.

    Args:
        file: the archive.
        records: its records.
        pickle_name: the record that holds the structure, as "archive/data.pkl".
        limits: what the checkpoint may take.
        depth: how many pickles the archive lies in.

    Returns:
        What it holds.

    Raises:
        CheckpointError: if it is damaged.
    """
    folder = pickle_name.removesuffix("data.pkl")
    script = f"{folder}constants.pkl" in records.records
    order = _byte_order(file, records, folder)
    loader = _RecordLoader(records, folder, order)
    record = records.records[pickle_name]
    source = PickleBytes(*records.pickle(pickle_name), file.path)
    if not depth:
        limits.allow(min(record.size, 8 * record.compressed))  # an honest pickle hardly shrinks more
    machine = PickleMachine(source, limits, _find, loader, depth)
    value = machine.run()
    if script:
        if not loader.storages and any(name.startswith(f"{folder}constants/") for name in records.records):
            raise CheckpointError(
                f"{file.path}: a frozen TorchScript archive, which no longer tells the names of its tensors; save the"
                " original model's state_dict() instead"
            )
        _show_modules(value)
    name = "TorchScript archive" if script else "PyTorch zip"
    return Content(name, value, frozenset(machine.classes), records.bytes_read)


def read_pickles(file: FileBytes, limits: Limits, depth: int = 0) -> Content:
    """Read the old format, or a plain pickle.

    Args:
        file: the file.
        limits: what the checkpoint may take.
        depth: how many pickles the file lies in.

    Returns:
        What it holds.

    Raises:
        CheckpointError: if it is damaged.
    """
    source = PickleBytes(file.map(), 0, file.size, file.path)
    loader = _OldLoader(file)
    if not depth:
        limits.allow(file.size)
    machine = PickleMachine(source, limits, _find, loader, depth)
    value = machine.run()
    if type(value) is not int or value != MAGIC:
        if loader.storages:
            raise source.error("it refers to something outside of it")
        return Content("pickle", value, frozenset(machine.classes), source.place)
    version = machine.run()
    if type(version) is not int or version != _PROTOCOL:
        raise source.error("an unknown version of the old format")
    system = machine.run()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise CheckpointError(
            f"{file.path}: the old format, written on a big-endian machine, which is not read; save it again with"
            " PyTorch 1.6 or newer"
        )
    value = machine.run()
    end = loader.place_storages(machine.run(), source)
    return Content("PyTorch old format", value, frozenset(machine.classes), end + 8 * len(loader.storages))


def _find(module: str, name: str) -> Stub | str | None:
    if (module, name) == ("torch.storage", "_load_from_bytes"):
        return Constructor("torch.storage._load_from_bytes", _load_from_bytes)
    return find(module, name)


def _load_from_bytes(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_load_from_bytes(data)`: a storage that was pickled without torch.save."""
    if len(arguments) != 1 or not isinstance(arguments[0], (bytes, bytearray)):
        return NotImplemented
    if machine.depth >= _MOST_DEPTH:
        raise machine.source.error("pickles lie in pickles")
    data = bytes(arguments[0])
    machine.charge(16 * len(data))  # the time to read it, too: a pickle can ask for that as often as it likes
    file = MemoryFile(data, machine.source.path)
    if data.startswith(b"PK"):
        records = ZipRecords(file)
        names = [name for name in records.records if name.endswith("data.pkl")]
        content = read_zip(file, records, names[0], machine.limits, machine.depth + 1) if names else None
    else:
        content = read_pickles(file, machine.limits, machine.depth + 1)
    if content is None:
        raise machine.source.error("a zip archive without data.pkl")
    machine.classes |= content.classes
    return content.value


def _show_modules(content: object) -> None:
    """Give the modules of TorchScript the state that modules of Python have: tensors and modules under their kinds."""
    for value in walk(content):
        if isinstance(value, Stub) and value.name.startswith("__torch__.") and isinstance(value.state, dict):
            attributes = value.state
            tensors = {key: item for key, item in attributes.items() if isinstance(item, TensorHandle)}
            modules = {
                key: item
                for key, item in attributes.items()
                if isinstance(item, Stub) and item.name.startswith("__torch__.")
            }
            others = {key: item for key, item in attributes.items() if key not in tensors and key not in modules}
            value.state = {**others, **dict(zip(_MODULE_STATE, (tensors, {}, modules), strict=True))}


def _byte_order(file: FileBytes, records: ZipRecords, folder: str) -> str:
    name = f"{folder}byteorder"
    if name not in records.records:
        return "little"
    if records.records[name].size > 10 or (order := records.read(name)) not in (b"little", b"big"):
        raise CheckpointError(f"{file.path}: damaged (its byte order is neither little nor big)")
    return order.decode()


def _storage_id(machine: PickleMachine, saved: object) -> tuple[StorageClass, str, int]:
    """The class, key and number of values of a storage."""
    if not isinstance(saved, tuple) or len(saved) not in (5, 6) or not _is_text(saved[0], "storage"):
        raise machine.source.error("it refers to something outside of it that is no storage")
    kind, key, count = saved[1], saved[2], saved[4]
    key = key.decode("latin-1") if isinstance(key, bytes) else str(key) if type(key) is int else key
    if not isinstance(kind, StorageClass) or not isinstance(key, str) or type(count) is not int or count < 0:
        raise machine.source.error("a storage with strange properties")
    return kind, key, count


def _is_text(value: object, text: str) -> bool:
    """Whether a value is a text. Values of a file are compared after their type is known: arrays compare otherwise."""
    return isinstance(value, (str, bytes)) and value in (text, text.encode())


class _RecordLoader:
    """Finds the storages of the zip format: records of the archive."""

    def __init__(self, records: ZipRecords, folder: str, order: str):
        self.records, self.folder, self.order = records, folder, order
        self.storages: dict[str, Storage] = {}

    def __call__(self, machine: PickleMachine, saved: object) -> object:
        kind, key, count = _storage_id(machine, saved)
        name, nbytes = f"{self.folder}data/{key}", count * kind.dtype.itemsize
        if name not in self.records.records and f"{self.folder}tensors/{key}" in self.records.records:
            name = f"{self.folder}tensors/{key}"  # PyTorch 1.4
        record = self.records.records.get(name)
        if (record.size if record else 0) != nbytes:
            found = f"has {record.size:,} bytes" if record else "is missing"
            raise machine.source.error(f"{name} {found}, expected {nbytes:,} bytes")
        if name not in self.storages:
            self.storages[name] = RecordStorage(self.records, name, nbytes, self.order)
        return _vector(machine, kind, self.storages[name], 0, count)


class _OldLoader:
    """Finds the storages of the old format, which follow the pickle: their places are known after it."""

    def __init__(self, file: FileBytes):
        self.file = file
        self.storages: dict[str, tuple[FileStorage, int]] = {}

    def __call__(self, machine: PickleMachine, saved: object) -> object:
        if isinstance(saved, tuple) and len(saved) == 4 and _is_text(saved[0], "module"):
            return saved[1]  # a class, with its source code
        kind, key, count = _storage_id(machine, saved)
        nbytes = count * kind.dtype.itemsize
        storage, size = self.storages.setdefault(key, (FileStorage(self.file, nbytes), kind.dtype.itemsize))
        if storage.nbytes != nbytes:
            raise machine.source.error("a storage has two sizes")
        view = saved[5] if isinstance(saved, tuple) and len(saved) == 6 else None
        if view is None:
            return _vector(machine, kind, storage, 0, count)
        start, length = view[1:] if isinstance(view, tuple) and len(view) == 3 else (None, None)
        if type(start) is not int or type(length) is not int or min(start, length) < 0 or start + length > count:
            raise machine.source.error("a view reaches beyond its storage")
        return _vector(machine, kind, storage, start, length)

    def place_storages(self, keys: object, source: PickleBytes) -> int:
        """Say where each storage begins: the file has the number of its values, then its bytes."""
        place = source.place
        for key in keys if isinstance(keys, list) else ():
            key = str(key) if isinstance(key, int) else key
            storage, size = self.storages.get(key, (None, 1)) if isinstance(key, str) else (None, 1)
            if storage is None or storage.start is not None:
                raise source.error("its list of storages is wrong")
            count = int.from_bytes(self.file.read(place, 8), "little")
            place += 8
            if count * size != storage.nbytes:
                raise source.error(f"a storage has {count * size:,} bytes, expected {storage.nbytes:,}")
            if place + storage.nbytes > self.file.size:
                raise source.error("it ends in the middle of a storage: unexpected EOF")
            storage.start = place
            place += storage.nbytes
        if any(storage.start is None for storage, _ in self.storages.values()):
            raise source.error("a storage is missing")
        return source.place


def _vector(machine: PickleMachine, kind: StorageClass, storage: Storage, start: int, count: int) -> TensorHandle:
    """A storage as a tensor of one dimension, of which the pickle makes views."""
    return TensorHandle(kind.dtype, (count,), "dense", storage, start, (1,), name=str(machine.source.path))
