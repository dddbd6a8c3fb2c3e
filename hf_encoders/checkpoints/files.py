"""Opens a file or folder of weights of any kind without executing anything in it."""

import os
from pathlib import Path

from ..models.input_errors import one_line
from .checkpoint import Checkpoint
from .errors import CheckpointError
from .folders import read_folder, refuse_shard
from .kinds import HEAD, OLD_PICKLE, ZIP, is_pickle, name_kind, name_parts, name_zip
from .mapped_file import FileBytes, MappedFile
from .numpy_archives import is_npz, read_npz
from .pickles.limits import Limits
from .safetensors_files import is_safetensors, read_safetensors
from .structure import check_depth
from .torch_files import Content, read_pickles, read_zip
from .zip_records import ZipRecords

__all__ = ["CheckpointError", "open_checkpoint"]


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the structure of a file or folder of weights. Its tensors are read when they are asked for.

    Nothing in it is executed and no class that it names is imported: objects of such classes become stubs.

    Args:
        path: a file, or a folder with the parts of a checkpoint.

    Returns:
        What it holds. Its tensors are backed by the file: keep it in place.

    Raises:
        CheckpointError: if it is missing, damaged or no checkpoint; the message says what it is and what to do.
    """
    path = Path(path)
    if "\0" in str(path):
        raise CheckpointError(f"{path}: no file can have this name")
    try:
        content = _read(path)
        check_depth(path, content.value)
    except MemoryError:
        raise CheckpointError(f"{path}: not enough memory to read it, or the file is damaged") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    except CheckpointError:
        raise
    except Exception as error:  # the last net: a file that nobody thought of ends in one line, too
        raise CheckpointError(f"{path}: damaged, or not a PyTorch checkpoint ({one_line(error)})") from error
    return Checkpoint(path, content.container, content.value, tuple(sorted(content.classes)), content.bytes_read)


def _read(path: Path) -> Content:
    limits = Limits(path)
    if path.is_dir():
        return read_folder(path, limits, lambda part: _read_file(MappedFile(part), limits))
    file = MappedFile(path)
    refuse_shard(path)
    try:
        return _read_file(file, limits)
    except CheckpointError:
        if parts := name_parts(path):
            raise CheckpointError(f"{path}: {parts}") from None
        raise


def _read_file(file: FileBytes, limits: Limits) -> Content:
    head = file.read(0, HEAD)
    if not head:
        raise CheckpointError(f"{file.path}: the file is empty; copy or download it again")
    if head.startswith(ZIP):
        return _read_zip(file, limits)
    if is_safetensors(head, file.size):  # before pickles: the length of its header may look like the begin of one
        return read_safetensors(file)
    if is_pickle(head):
        return read_pickles(file, limits)
    if OLD_PICKLE.match(head):
        try:
            return read_pickles(file, limits)
        except CheckpointError:  # text begins so, too
            pass
    raise CheckpointError(f"{file.path}: {name_kind(file)}")


def _read_zip(file: FileBytes, limits: Limits) -> Content:
    records = ZipRecords(file)
    pickles = [name for name in records.records if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) == 1:
        return read_zip(file, records, pickles[0], limits)
    if pickles:
        names = ", ".join(pickles[:3])
        raise CheckpointError(f"{file.path}: a zip archive with several checkpoints ({names}); unpack it, and pack one")
    if is_npz(records):
        return read_npz(file, records, limits)
    raise CheckpointError(f"{file.path}: {name_zip(list(records.records), file.path)}")
