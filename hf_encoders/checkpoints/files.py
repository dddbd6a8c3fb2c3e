"""Reads a .pth or .pt file without executing anything in it, and says in one line what is wrong with it."""

import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import torch

from .errors import CheckpointError
from .numpy_values import NotPlainError, PickledArray, PickledDtype, empty_bytes, reconstruct, scalar, with_arrays

_ZIP, _PICKLE, _HDF5 = b"PK\x03\x04", b"\x80", b"\x89HDF"
_GIT_LFS = b"version https://git-lfs"

# NumPy numbers and arrays, which training scripts store as losses and histories, under old and new names. What a file
# calls so is ours: nothing of NumPy is called with the file's arguments.
_NUMPY_GLOBALS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (PickledArray, "numpy.ndarray"),
    (PickledDtype, "numpy.dtype"),
    *((reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((empty_bytes, f"{module}.bytes") for module in ("builtins", "__builtin__")),
]
# What the pickle of a state dict names.
_PLAIN_GLOBALS = re.compile(
    r"torch\.\w+$|torch\.(_utils|_tensor|nn\.parameter|storage)\.|collections\.OrderedDict$|_codecs\.encode$"
    r"|numpy\.(_?core\.|ndarray$|dtype$)|(builtins|__builtin__)\.bytes$"
)


def read_checkpoint(path: str | os.PathLike[str]) -> Mapping[str, object]:
    """Read what `torch.save` wrote: zip or old format, from any device, memory-mapped where the format allows.

    Nothing in the file is executed: tensors and plain data are read, any other Python object is refused by name.

    Args:
        path: a .pth or .pt file that holds a dictionary.

    Returns:
        The dictionary, its tensors on the CPU. With the zip format they are backed by the file: keep it in place.

    Raises:
        CheckpointError: if the file is missing, damaged, of another kind, or holds anything else.
    """
    path = Path(path)
    mappable = _check_kind(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_NUMPY_GLOBALS):
            warnings.simplefilter("ignore")
            content = with_arrays(torch.load(path, map_location="cpu", weights_only=True, mmap=mappable))
    except MemoryError:
        raise CheckpointError(f"{path}: not enough memory to read it, or the file is damaged") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(_explain(path, error)) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a dictionary with a state dict")
    return content


def _check_kind(path: Path) -> bool:
    """Refuse what is no checkpoint; true if the file can be memory-mapped."""
    if path.is_dir():
        raise CheckpointError(f"{path}: a directory, expected a checkpoint file such as {path / 'best_model.pth'}")
    if path.exists() and not path.is_file():  # a pipe or a device: reading might never end
        raise CheckpointError(f"{path}: not a regular file; copy it to one")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    if not head:
        raise CheckpointError(f"{path}: the file is empty; copy or download it again")
    if head.startswith(_ZIP):
        return _check_zip(path)
    if head.startswith(_PICKLE):
        return False
    raise CheckpointError(f"{path}: {_name_kind(head, size)}")


def _check_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # zipfile raises many kinds on damaged archives
        raise CheckpointError(f"{path}: damaged or truncated (no zip directory); copy or download it again") from None
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise CheckpointError(f"{path}: a TorchScript archive; save the original model's state_dict() instead")
    if "data.pkl" not in names:
        raise CheckpointError(f"{path}: a zip archive but not a PyTorch checkpoint (it has no data.pkl)")
    return all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)


def _name_kind(head: bytes, size: int) -> str:
    length = int.from_bytes(head[:8], "little")
    if size > 8 and head[8:9] == b"{" and length <= size:
        return (
            "a safetensors file, no legacy checkpoint: load it with safetensors.torch.load_file, or its folder with"
            " AutoModel.from_pretrained"
        )
    if head.startswith(_GIT_LFS):
        return "a Git LFS pointer, not the file itself; run `git lfs pull`"
    if head.startswith(_HDF5):
        return "an HDF5 file, not a PyTorch checkpoint"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        cut = size > len(head) and error.start > len(head) - 4  # the letter goes on after what was read
        text = head[: error.start].decode("utf-8") if cut else "\0"
    if "\0" not in text:
        kind = "JSON" if re.match(r'\s*(\{\s*["}]|\[\s*[\[{"\d-])', text) else "text"
        return f"a {kind} file, not a PyTorch checkpoint"
    return "not a PyTorch checkpoint (neither a zip archive nor a pickle)"


def _explain(path: Path, error: Exception) -> str:
    message = str(error)
    if isinstance(error.__context__, NotPlainError):
        return f"{path}: refused, because it holds {error.__context__}, which could reach into this process's memory"
    named = re.search(r"GLOBAL ([\w.]+)", message)
    newer = "Unsupported operand" in message  # torch reads pickles of protocol 2, its own, and stops at others
    unsafe = named.group(1) if named else _unsafe_global(path) if newer else ""
    if unsafe.startswith("torch.nn."):
        return (
            f"{path}: a whole pickled module ({unsafe}), refused because loading it would run code; in its own"
            " repository save model.state_dict() instead"
        )
    if unsafe:
        return (
            f"{path}: refused, because the file asks to load {unsafe}, which could run code; in its own"
            " repository save the state dict alone"
        )
    if newer:
        return (
            f"{path}: damaged, or saved with another pickle protocol than PyTorch's 2; save it again with"
            " torch.save(state_dict, path)"
        )
    if "legacy .tar" in message:
        return f"{path}: the tar format of PyTorch before 0.1.10; save it again with a newer PyTorch"
    return f"{path}: damaged, or not a PyTorch checkpoint ({_cause(message) or type(error).__name__})"


def _unsafe_global(path: Path) -> str:
    """The first global that a pickle of any protocol names and that is no part of plain data, or an empty string."""
    strings: list[str] = []
    with suppress(Exception), _open_pickle(path) as file:  # a damaged pickle ends somewhere
        while True:  # the old format is several pickles
            memo: dict[object, object] = {}
            previous: object = None
            for code, argument, _ in pickletools.genops(file):
                if code.name in ("GLOBAL", "STACK_GLOBAL"):
                    name = ".".join(strings[-2:]) if argument is None else str(argument).replace(" ", ".")
                    if not _PLAIN_GLOBALS.match(name):
                        return name
                elif code.name == "MEMOIZE":
                    memo[len(memo)] = previous
                elif code.name in ("BINGET", "LONG_BINGET"):
                    argument = memo.get(argument)
                if isinstance(argument, str):
                    strings.append(argument)
                previous = argument
    return ""


def _open_pickle(path: Path) -> IO[bytes]:
    if not zipfile.is_zipfile(path):
        return path.open("rb")
    archive = zipfile.ZipFile(path)
    return archive.open(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def _cause(message: str) -> str:
    """The one sentence that says something, out of the advice that torch.load wraps it in."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = [
        line for line in lines if not line.startswith(("Weights only load failed", "(1)", "(2)", "Check the doc"))
    ]
    return telling[0].removeprefix("WeightsUnpickler error: ").partition(". ")[0][:160] if telling else ""
