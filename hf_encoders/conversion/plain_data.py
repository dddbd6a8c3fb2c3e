"""What a checkpoint says about itself (configuration, arguments, losses, anything), as bounded JSON.

Nothing in it can do harm where it is shown: control characters are escaped, and so are the beginning and the end of an
HTML comment, with which the marks of a model card are written.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta

import numpy as np

from ..checkpoints.checkpoint import Stub
from ..checkpoints.errors import CheckpointError
from ..checkpoints.finding.modules import attributes, is_module, without_nodes
from ..checkpoints.finding.weights import as_weight
from ..hub.reports import Json
from ..plurals import counted
from .redaction import redacted

CLASS = "__class__"
_MOST_VALUES = 50_000  # in all
_MOST_LETTERS = 2_000_000  # in all
_LONGEST_TEXT = 100_000  # letters
_LONGEST_LIST = 1000  # items; a longer one is no figure of a training run
_SHOWN_ITEMS = 10  # of a longer list, from each end
_DEEPEST = 20
_MOST_TENSORS = 20  # in one dictionary; more of them are weights
_LARGEST_WHOLE = 1 << 64


def plain_data(value: object, *, read_tensors: bool = True) -> Json:
    """The JSON form of any value in a checkpoint, without absolute paths and names of users and hosts.

    Objects become their attributes, with the name of their class under `__class__`. Large arrays and long lists are
    summed up; what contains itself is a reference in its place.

    Args:
        value: the value.
        read_tensors: show the numbers of small tensors. Without it, nothing of the file is read.
    """
    return redacted(_Plain(read_tensors).of(value, ""))


def plain_metadata(metadata: Mapping[str, object], *, read_tensors: bool = True) -> dict[str, Json]:
    """The JSON form of what a checkpoint says at its top; see `plain_data`."""
    tensors = [key for key, value in metadata.items() if as_weight(value) is not None]
    many: dict[str, object] = {"…": f"{len(tensors)} tensors"} if len(tensors) > _MOST_TENSORS else {}
    named = {key: value for key, value in metadata.items() if not many or key not in tensors}
    found = plain_data(named | many, read_tensors=read_tensors)
    return found if isinstance(found, dict) else {}


def plain_text(text: str) -> str:
    """A text from a checkpoint as `plain_data` gives it."""
    return str(plain_data(text))


def harmless(text: str) -> str:
    """A text that neither a terminal nor a card takes for more than text; lines and tabs stay."""
    text = text.replace("<!--", "&lt;!--").replace("-->", "--&gt;")
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )


class _Plain:
    """One conversion: how much it may still write, and what it is inside of."""

    def __init__(self, read_tensors: bool):
        self._read_tensors = read_tensors
        self._values, self._letters = _MOST_VALUES, _MOST_LETTERS
        self._inside: dict[int, str] = {}

    def of(self, value: object, path: str) -> Json:
        value = without_nodes(value)
        self._values -= 1
        if self._values < 0 or self._letters < 0:
            return "… (left out: there is too much of it)"
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            whole = int(value)
            return whole if abs(whole) < _LARGEST_WHOLE else f"a number of {whole.bit_length()} bits"
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (bytes, bytearray)):
            return f"{len(value):,} bytes"
        if isinstance(value, np.generic):
            return self.of(value.item(), path)
        if isinstance(value, np.ndarray):
            return self._array(value.shape, lambda: value.tolist(), path)
        if (weight := as_weight(value)) is not None:
            readable = self._read_tensors and weight.kind == "dense"
            return self._array(weight.shape, lambda: weight.read().tolist(), path, readable)
        if id(value) in self._inside:
            return f"(the same as {self._inside[id(value)] or 'the top'})"
        if path.count(".") >= _DEEPEST:
            return "… (left out: it lies too deep)"
        self._inside[id(value)] = path
        try:
            return self._container(value, path)
        finally:
            del self._inside[id(value)]

    def _container(self, value: object, path: str) -> Json:
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, (list, tuple)):
            return self._list(value, path)
        if isinstance(value, (set, frozenset)):
            return self._list(sorted(value, key=lambda item: f"{type(item).__name__} {item!s:.99}"), path)
        if isinstance(value, Stub):
            return self._object(value, path)
        return self._text(str(value))

    def _text(self, text: str) -> str:
        if len(text) > _LONGEST_TEXT:
            text = f"{text[:_LONGEST_TEXT]}… ({len(text):,} letters)"
        text = harmless(text)
        self._letters -= len(text)
        return text

    def _array(self, shape: tuple[int, ...], values: Callable[[], object], path: str, readable: bool = True) -> Json:
        if not readable or math.prod(shape) > _LONGEST_LIST:
            return f"an array of shape {list(shape)}"
        try:
            return self.of(values(), path)
        except CheckpointError:  # damaged there; the weights may be whole
            return f"an array of shape {list(shape)}, which cannot be read"

    def _mapping(self, value: Mapping[object, object], path: str) -> Json:
        tensors = sum(as_weight(item) is not None for item in value.values())
        if tensors > _MOST_TENSORS:
            return counted(tensors, "tensor")
        return self._entries(value.items(), path)

    def _entries(self, items: Iterable[tuple[object, object]], path: str) -> dict[str, Json]:
        result: dict[str, Json] = {}
        left_out = 0
        for key, item in items:
            if len(result) >= _LONGEST_LIST:
                left_out += 1
                continue
            name = self._text(key if isinstance(key, str) else str(self.of(key, path)))[:200]
            while name in result:
                name += "'"
            result[name] = self.of(item, f"{path}.{name}" if path else name)
        if left_out:
            result["…"] = f"{left_out:,} more"
        return result

    def _list(self, value: list[object] | tuple[object, ...], path: str) -> Json:
        if len(value) <= _LONGEST_LIST:
            return [self.of(item, f"{path}.{number}") for number, item in enumerate(value)]
        first = [self.of(item, f"{path}.{number}") for number, item in enumerate(value[:_SHOWN_ITEMS])]
        last = [self.of(item, f"{path}.-{_SHOWN_ITEMS - n}") for n, item in enumerate(value[-_SHOWN_ITEMS:])]
        return [*first, f"… {len(value) - 2 * _SHOWN_ITEMS:,} more", *last]

    def _object(self, stub: Stub, path: str) -> Json:
        known = _known_object(stub)
        if known is not None:
            return self.of(known, path)
        name = self._text(stub.name)
        if is_module(stub):
            return {CLASS: name}
        parts: dict[object, object] = {}
        for what, values in (("arguments", stub.arguments), ("items", stub.items), ("keywords", stub.keywords)):
            if values:
                parts[what] = values
        if stub.state is not None and not attributes(stub):
            parts["state"] = stub.state
        parts |= dict(attributes(stub)) | stub.entries
        inner = self._mapping(parts, path)
        return {CLASS: name, **inner} if isinstance(inner, dict) else {CLASS: name, "content": inner}


def _known_object(stub: Stub) -> object:
    """What an object of a well-known class stands for: a path, a date, a device, a type; None for others."""
    module, _, kind = stub.name.rpartition(".")
    arguments = stub.arguments
    if not stub.is_instance:
        return stub.name if module == "torch" else None
    if module.split(".")[0] == "pathlib" and all(isinstance(part, str) for part in arguments):
        first, *rest = map(str, arguments or (".",))
        return first + ("" if first.endswith(("/", "\\")) or not rest else "/") + "/".join(rest)
    if module == "datetime":
        return _time(kind, arguments)
    if stub.name == "torch.device":
        return ":".join(str(part) for part in arguments if isinstance(part, (str, int)))
    if stub.name == "torch.Size" and len(arguments) == 1:
        return arguments[0]
    return None


def _time(kind: str, arguments: tuple[object, ...]) -> str | None:
    """A date or time as text. Source: `datetime.__reduce__`, which gives bytes, and text from Python 2."""
    first = arguments[0] if arguments else None
    if isinstance(first, str):
        first = first.encode("latin-1", "replace")
    try:
        if kind == "datetime" and isinstance(first, bytes) and len(first) == 10:
            micro = int.from_bytes(first[7:], "big")
            year, month = int.from_bytes(first[:2], "big"), first[2] & 127  # the highest bit tells summer time
            day, hour, minute, second = first[3:7]
            return datetime(year, month, day, hour, minute, second, micro).isoformat()
        if kind == "date" and isinstance(first, bytes) and len(first) == 4:
            return date(int.from_bytes(first[:2], "big"), first[2], first[3]).isoformat()
        if kind == "timedelta" and all(type(part) is int for part in arguments):
            return str(timedelta(*(int(str(part)) for part in arguments)))
    except (ValueError, OverflowError, TypeError):
        return None
    return None
