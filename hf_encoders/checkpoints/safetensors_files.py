"""Files of safetensors: the header is checked, the tensors are mapped when they are asked for.

Source: the format's description in the repository of safetensors. A header is JSON, names with places in the file.
"""

import json

import torch

from .checkpoint import TensorHandle
from .errors import CheckpointError
from .mapped_file import FileBytes
from .pickles.tensors import contiguous
from .storages import FileStorage
from .torch_files import Content

_LARGEST_HEADER = 32 << 20  # 100,000 tensors take a third of it
_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "U16": torch.uint16,
    "I32": torch.int32, "U32": torch.uint32, "I64": torch.int64, "U64": torch.uint64, "F16": torch.float16,
    "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
_METADATA = "__metadata__"


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file that begins so is one of safetensors, by the length of its header and the header's begin."""
    return len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8


def read_safetensors(file: FileBytes) -> Content:
    """Read the header of a file of safetensors.

    Returns:
        Handles by name, and the file's own notes under "__metadata__" where it has more than the usual one.

    Raises:
        CheckpointError: if the header is no such header, or a tensor lies outside of the file.
    """
    size = int.from_bytes(file.read(0, 8), "little")
    if size > _LARGEST_HEADER:
        raise _damaged(file, f"a header of {size:,} bytes")
    try:
        header = json.loads(file.read(8, size).decode("utf-8"), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        raise _damaged(file, "its header is not JSON, or has a name twice") from None
    if not isinstance(header, dict):
        raise _damaged(file, "its header is no dictionary")
    notes = header.pop(_METADATA, {})
    value: dict[object, object] = {name: _handle(file, name, entry, size + 8) for name, entry in header.items()}
    if isinstance(notes, dict) and set(notes) - {"format"}:
        value[_METADATA] = {str(key): note for key, note in notes.items()}
    return Content("safetensors", value, frozenset(), size + 8)


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _handle(file: FileBytes, name: str, entry: object, data: int) -> TensorHandle:
    match entry:
        case {"dtype": str() as kind, "shape": list() as shape, "data_offsets": [int() as start, int() as end]}:
            dtype = _DTYPES.get(kind)
            if dtype is None:
                raise CheckpointError(f"{file.path}: {name!r} has the dtype {kind!r}, which PyTorch does not have")
            if len(shape) > 64 or any(type(length) is not int or length < 0 for length in shape):
                raise _damaged(file, f"{name!r} has a strange shape")
            handle = TensorHandle(
                dtype,
                tuple(shape),
                "dense",
                FileStorage(file, end - start, data + start),
                0,
                contiguous(tuple(shape)) or (),
                name=str(file.path),
            )
            if (
                not 0 <= start <= end <= file.size - data
                or handle.nbytes != end - start
                or len(handle.stride) != len(shape)
            ):
                raise _damaged(file, f"{name!r} has a place that its shape does not fit, or ends beyond the file")
            return handle
    raise _damaged(file, f"{name!r} is no description of a tensor")


def _damaged(file: FileBytes, why: str) -> CheckpointError:
    return CheckpointError(
        f"{file.path}: a damaged or truncated file of safetensors ({why}); copy or download it again"
    )
