"""NumPy values of a pickle, rebuilt from checked parts: no constructor and no `__setstate__` of NumPy sees them.

A pickled dtype carries a state of its own. NumPy believes it: fields or a subarray that are larger than the item, or
objects in place of numbers, give arrays that read memory beyond the bytes of the file. So plain dtypes are made by
their string, from bytes of exactly the length that the shape asks for; whatever is not plain stays a stub, and arrays
of objects become lists. Source: `__reduce__` of `numpy.dtype`, `numpy.ndarray` and `numpy.generic`.
"""

import math
import re

import numpy as np

from ..checkpoint import Stub
from .machine import Arguments, Build, Constructor, Keywords, Pending, PickleMachine

# A kind and its bytes: booleans, integers, floats, complex numbers, dates, strings of a fixed length, objects.
_PLAIN_TYPE = re.compile(r"\?|b1|[iu][1248]|f[248]|c(8|16)|[mM]8|[SU]\d{1,9}|O8?")
_BYTE_ORDERS = ("<", ">", "=", "|")
_UNITS = (b"Y", b"M", b"W", b"D", b"h", b"m", b"s", b"ms", b"us", b"ns", b"ps", b"fs", b"as", b"generic")
_UNICODE_END = 0x110000
_MOST_DIMENSIONS = 64
_MODULE = re.compile(r"numpy\.(?:_?core\.)(multiarray|numeric)|numpy")


class PickledDtype(Pending):
    """Stands for a dtype. `plain` is what it is if it is plain, else None; objects count as plain."""

    __slots__ = ("plain",)

    def __init__(self, arguments: Arguments):
        super().__init__("numpy.dtype", arguments)
        text = arguments[0] if arguments else None
        self.plain: np.dtype | None = None
        if isinstance(text, str) and _PLAIN_TYPE.fullmatch(text) and _fits(text):
            self.plain = np.dtype(text)

    def finish(self, machine: PickleMachine, state: object) -> object:
        """Take the byte order and the unit of dates; everything else must be what a plain dtype has."""
        self.state = state
        if self.plain is not None:
            self.plain = _with_state(self.plain, state)
        return self


class PickledArray(Pending):
    """Stands for an array, until a state fills it."""

    __slots__ = ()

    def finish(self, machine: PickleMachine, state: object) -> object:
        """Take `(version, shape, dtype, is_fortran, data)`; version is absent in very old files."""
        self.state = state
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            return self
        shape, dtype, is_fortran, data = state[-4:]
        made = _array(machine, dtype, data, shape, isinstance(is_fortran, int) and bool(is_fortran))
        return self if made is None else made


def find_numpy(module: str, name: str) -> Stub | None:
    """The constructor of a name of NumPy, old or new; None if it is another."""
    build = _BUILDS.get(name.removeprefix("_")) if _MODULE.fullmatch(module) else None
    return Constructor(f"{module}.{name}", build) if build else None


def _fits(text: str) -> bool:
    """Whether the size of an item is one that NumPy has."""
    return text[0] not in "SU" or 0 < int(text[1:]) < 1 << 28


def _with_state(dtype: np.dtype, state: object) -> np.dtype | None:
    """A dtype with the order of its state, None if the state makes it another than a plain one."""
    match state:
        case (int() as version, str() as order, None, None, None, int() as size, _, _, *more):
            metadata = more[0] if more else None
            if version not in (3, 4) or order not in _BYTE_ORDERS or size not in (-1, dtype.itemsize) or len(more) > 1:
                return None
            if dtype.kind in "mM":
                return _date_type(dtype.kind, order, metadata)
            return np.dtype(f"{order}{dtype.str[1:]}") if metadata is None else None
    return None


def _date_type(kind: str, order: str, metadata: object) -> np.dtype | None:
    """The dtype of dates or spans with a unit, from `(metadata, (unit, number, denominator, events))`."""
    match metadata:
        case (_, (bytes() as unit, int() as number, int() as parts, int() as events)):
            if unit in _UNITS and 0 < number < 1 << 20 and parts == events == 1:
                name = f"{kind}8" if unit == b"generic" else f"{kind}8[{number}{unit.decode()}]"
                return np.dtype(f"{order}{name}")
    return None


def _dtype(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`numpy.dtype(text, align, copy)`."""
    return PickledDtype(arguments)


def _reconstruct(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_reconstruct(class, (0,), b"b")`: an array that a state fills. A subclass's array is taken for one."""
    name = arguments[0].name if arguments and isinstance(arguments[0], Stub) else "numpy.ndarray"
    return PickledArray(name, arguments)


def _scalar(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`scalar(dtype, bytes)`: a number."""
    match arguments:
        case (PickledDtype(plain=np.dtype(kind="O")), value):
            return value
        case (PickledDtype() as dtype, data):
            made = _array(machine, dtype, data, (1,), False)
            return made[0] if isinstance(made, np.ndarray) else NotImplemented
    return NotImplemented


def _class(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`numpy.ndarray`, which `_reconstruct` takes. It is not called by itself."""
    return NotImplemented


def _from_buffer(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_frombuffer(buffer, dtype, shape, order)`, which protocol 5 calls."""
    if len(arguments) != 4:
        return NotImplemented
    buffer, dtype, shape, order = arguments
    made = _array(machine, dtype, buffer, shape, isinstance(order, str) and order == "F")
    return NotImplemented if made is None else made


def _array(machine: PickleMachine, dtype: object, data: object, shape: object, fortran: bool) -> object:
    """An array of a plain dtype, a list of objects, or None for what is neither.

    Raises:
        CheckpointError: if it is plain, and its bytes are not what its shape asks for.
    """
    plain = dtype.plain if isinstance(dtype, PickledDtype) else None
    if plain is None:
        return None
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS or any(
        type(size) is not int or size < 0 for size in shape
    ):  # fmt: skip
        raise machine.source.error("a NumPy array with a strange shape")
    count = math.prod(shape)
    if plain.kind == "O":
        return _nested(machine, data, shape, count)
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data  # a string of Python 2
    if not isinstance(data, (bytes, bytearray)):
        return None
    if len(data) != count * plain.itemsize:
        raise machine.source.error(
            f"NumPy values of {len(data):,} bytes, expected {count:,} of {plain.itemsize} bytes each"
        )
    machine.charge(len(data))
    try:
        array = np.frombuffer(data, plain).copy().reshape(shape, order="F" if fortran else "C")
    except ValueError:  # sizes beyond NumPy's, of nothing
        raise machine.source.error("a NumPy array with a strange shape") from None
    if plain.kind == "U" and (_code_points(array) >= _UNICODE_END).any():
        raise machine.source.error("NumPy strings with letters beyond Unicode")
    return array


def _code_points(strings: np.ndarray) -> np.ndarray:
    """The letters of strings as numbers: NumPy keeps four bytes for each, and does not check them."""
    return strings.reshape(-1).view(np.dtype("u4").newbyteorder(strings.dtype.byteorder))


def _nested(machine: PickleMachine, data: object, shape: tuple[int, ...], count: int) -> object:
    """An array of objects as lists in lists, one of no dimensions as a list of one."""
    if not isinstance(data, list):
        return None
    if len(data) != count:
        raise machine.source.error(f"a NumPy array of {len(data):,} objects, expected {count:,}")
    machine.charge(8 * len(data))
    values = list(data)
    for size in shape[:0:-1] if count else ():
        machine.charge(80 * (len(values) // size) + 8 * len(values))
        values = [values[start : start + size] for start in range(0, len(values), size)]
    return values


_BUILDS: dict[str, Build] = {
    "reconstruct": _reconstruct,
    "scalar": _scalar,
    "frombuffer": _from_buffer,
    "dtype": _dtype,
    "ndarray": _class,
}
