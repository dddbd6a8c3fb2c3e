"""NumPy values of a pickle, rebuilt from checked parts: no constructor and no `__setstate__` of NumPy sees them.

A pickled dtype carries a state of its own. NumPy believes it: fields or a subarray that are larger than the item, or
objects in place of numbers, give arrays that read memory beyond the bytes of the file. So the pickle's names stand for
the classes and functions below, which take plain dtypes by their string and bytes of exactly the length that the shape
asks for. Source: `__reduce__` of `numpy.dtype`, `numpy.ndarray` and `numpy.generic`.
"""

import math
import pickle
import re

import numpy as np

# A kind and its bytes: booleans, integers, floats, complex numbers, strings of a fixed length.
_PLAIN_TYPE = re.compile(r"\?|b1|[iu][1248]|f[248]|c(8|16)|[SU][1-9]\d{0,5}")
_BYTE_ORDERS = ("<", ">", "=", "|")
_UNICODE_END = 0x110000


class NotPlainError(pickle.UnpicklingError):
    """A NumPy value that is no array of plain numbers or strings. The message names it: "a NumPy dtype ..."."""


class PickledDtype:
    """Stands for `numpy.dtype`.

    Raises:
        NotPlainError: for a dtype that is not plain.
    """

    def __init__(self, *arguments: object):
        if not arguments or not isinstance(arguments[0], str) or not _PLAIN_TYPE.fullmatch(arguments[0]):
            raise NotPlainError(f"a NumPy dtype that is not plain: {arguments!r:.60}")
        self.dtype = np.dtype(arguments[0])

    def __setstate__(self, state: object) -> None:
        """Take the byte order; everything else must be what a plain dtype has."""
        version, order, *structure = state if isinstance(state, tuple) and len(state) in (8, 9) else (None, None)
        if version not in (3, 4) or order not in _BYTE_ORDERS:
            raise NotPlainError("a NumPy dtype with a strange state")
        subarray, names, fields, size = structure[:4]
        if (subarray, names, fields) != (None, None, None) or size not in (-1, self.dtype.itemsize):
            raise NotPlainError("a NumPy dtype of records, arrays or another size")
        if len(structure) == 7 and structure[6] is not None:
            raise NotPlainError("a NumPy dtype with metadata")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray:
    """Stands for `numpy.ndarray`, which `_reconstruct` makes and a state fills.

    Raises:
        NotPlainError: if it is called as a constructor, or the state is no plain array's.
    """

    array: np.ndarray

    def __init__(self, *arguments: object):
        raise NotPlainError("a NumPy array that is not made by _reconstruct")

    def __setstate__(self, state: object) -> None:
        """Take `(version, shape, dtype, is_fortran, data)`; version is absent in very old files."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise NotPlainError("a NumPy array with a strange state")
        shape, dtype, is_fortran, data = state[-4:]
        if not isinstance(shape, tuple) or any(type(size) is not int or size < 0 for size in shape):
            raise NotPlainError("a NumPy array with a strange shape")
        array = _from_bytes(dtype, data, math.prod(shape))
        self.array = array.reshape(shape, order="F" if is_fortran else "C")


def reconstruct(*arguments: object) -> PickledArray:
    """Stands for `numpy._core.multiarray._reconstruct`: an array that a state fills."""
    if not arguments or arguments[0] is not PickledArray:
        raise NotPlainError("a NumPy array of a class of its own")
    return PickledArray.__new__(PickledArray)


def scalar(*arguments: object) -> object:
    """Stands for `numpy._core.multiarray.scalar`: a number, from its dtype and bytes."""
    if len(arguments) != 2:
        raise NotPlainError("a NumPy number without its bytes")
    return _from_bytes(*arguments, count=1)[0]


def empty_bytes(*arguments: object) -> bytes:
    """Stands for `bytes`, which protocol 2 calls for the bytes of an empty array, without arguments."""
    if arguments:
        raise NotPlainError("bytes made of something else")
    return b""


def with_arrays(value: object, _seen: dict[int, object] | None = None) -> object:
    """Put arrays in place of what stands for them, in dictionaries, lists and tuples at any depth."""
    seen = {} if _seen is None else _seen
    if isinstance(value, PickledArray):
        return getattr(value, "array", None)  # None: an array that no state filled
    if isinstance(value, PickledDtype):
        return str(value.dtype)
    if id(value) in seen:  # contains itself, or stands in several places
        return seen[id(value)]
    if isinstance(value, dict):
        seen[id(value)] = value
        for key, item in value.items():
            value[key] = with_arrays(item, seen)
    elif isinstance(value, list):
        seen[id(value)] = value
        value[:] = [with_arrays(item, seen) for item in value]
    elif type(value) is tuple:
        seen[id(value)] = value
        value = seen[id(value)] = tuple(with_arrays(item, seen) for item in value)
    return value


def _from_bytes(dtype: object, data: object, count: int) -> np.ndarray:
    if not isinstance(dtype, PickledDtype) or not isinstance(data, bytes):
        raise NotPlainError("NumPy values that are not plain numbers or strings")
    if len(data) != count * dtype.dtype.itemsize:
        raise NotPlainError(f"NumPy values of {len(data)} bytes, expected {count} of {dtype.dtype.itemsize} bytes each")
    array = np.frombuffer(data, dtype.dtype).copy()
    if array.dtype.kind == "U" and (_code_points(array) >= _UNICODE_END).any():
        raise NotPlainError("NumPy strings with letters beyond Unicode")
    return array


def _code_points(strings: np.ndarray) -> np.ndarray:
    """The letters of strings as numbers: NumPy keeps four bytes for each, and does not check them."""
    return strings.view(np.dtype("u4").newbyteorder(strings.dtype.byteorder))
