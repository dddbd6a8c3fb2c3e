"""Embeddings in fewer bytes: `Quantizer` makes float16, 8 bits or 1 bit of each number, and numbers of those again."""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..arrays import AnyArray, Numbers
from ..outputs import new_file

logger = logging.getLogger(__name__)

# What one number, or with "binary" eight of them, is stored as. The names are those of sentence-transformers.
_STORED = {
    "float32": np.float32,
    "float16": np.float16,
    "int8": np.int8,
    "uint8": np.uint8,
    "binary": np.int8,
    "ubinary": np.uint8,
}
PRECISIONS = tuple(_STORED)

_METADATA = "quantizer"
_STEPS = 255  # between the 256 values of a byte
_SIGNED = 128  # "int8" and "binary" hold the bytes of "uint8" and "ubinary" less this
_FEW_ROWS = 100
_MANY_CLIPPED = 0.05  # more than by chance: a hundred rows to calibrate by leave out 2 %
_ROWS_A_CHUNK = 65_536


@dataclass(frozen=True, eq=False)
class Quantizer:
    """Makes embeddings [N, D] smaller, always in the same way.

    ```python
    quantizer = Quantizer.calibrate(embeddings, "int8")
    codes = quantizer.quantize(embeddings)              # [N, D] int8
    quantizer.save(codes, "embeddings.safetensors")     # with the ranges
    quantizer, codes = Quantizer.load("embeddings.safetensors")
    codes = np.concatenate([codes, quantizer.quantize(later)])
    ```

    | precision | stored | bytes of 256 dimensions |
    |---|---|---|
    | "float32" | [N, D] float32, as it is | 1024 |
    | "float16" | [N, D] float16 | 512 |
    | "int8", "uint8" | [N, D], the nearest of 256 values, evenly spread over the dimension's range | 256 |
    | "binary", "ubinary" | [N, ceil(D / 8)], 1 bit a dimension: whether it is positive | 32 |

    The names and the layout are those of `sentence_transformers.quantize_embeddings`; that takes the value below where
    this takes the nearest one, so its error is twice as large.

    Args:
        precision: one of the table's.
        dimensions: D.
        ranges: [2, D] float32, the lowest and the highest value of each dimension, for "int8" and "uint8" alone. They
            never change: what lies outside becomes the nearest end.

    Raises:
        ValueError: for another precision, or ranges that are missing, not needed, of another shape, or no ranges.
    """

    precision: str
    dimensions: int
    ranges: AnyArray | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {self.dimensions}")
        if not self._has_ranges:
            if self.ranges is not None:
                raise ValueError(f"precision {self.precision!r} has no ranges")
            return
        if self.ranges is None:
            raise ValueError(f"precision {self.precision!r} needs ranges: use Quantizer.calibrate")
        with np.errstate(over="ignore", invalid="ignore"):
            ranges = np.array(self.ranges, np.float32)
            if ranges.shape != (2, self.dimensions):
                raise ValueError(f"ranges of shape {list(ranges.shape)}, expected [2, {self.dimensions}]")
            widths = ranges[1] - ranges[0]
        bad = np.flatnonzero(~(np.isfinite(widths) & (widths >= 0)))
        if len(bad):
            lowest, highest = ranges[:, bad[0]]
            raise ValueError(f"dimension {bad[0]} has no range: from {lowest} to {highest}")
        ranges.flags.writeable = False
        object.__setattr__(self, "ranges", ranges)

    @classmethod
    def calibrate(cls, embeddings: Numbers, precision: str) -> "Quantizer":
        """Fix the ranges: the lowest and highest value of each dimension in these embeddings.

        Args:
            embeddings: [N, D] numbers (array or tensor) like those to come. A later value lies outside the ranges of N
                rows once in (N + 1) / 2 times, so take thousands.
            precision: see the class.

        Raises:
            ValueError: for fewer than 2 rows where ranges are needed, NaN or infinity, or another shape.
        """
        array = _numbers(embeddings)
        if precision not in ("int8", "uint8"):
            return cls(precision, array.shape[1])
        if len(array) < 2:
            raise ValueError(f"{len(array)} embedding(s) give no ranges; calibrate with at least {_FEW_ROWS}")
        if len(array) < _FEW_ROWS:
            share = 200 / (len(array) + 1)
            logger.warning("ranges of %d embeddings only: about %.0f%% of later values are clipped", len(array), share)
        return cls(precision, array.shape[1], value_ranges(array))

    def quantize(self, embeddings: Numbers) -> AnyArray:
        """Embeddings [N, D] as the class's table says. Warns if more than 5 % of the values are clipped.

        Raises:
            ValueError: for another number of dimensions, NaN or infinity.
        """
        array = self._checked(embeddings)
        columns = -(-self.dimensions // 8) if self._is_binary else self.dimensions
        codes = np.empty((len(array), columns), _STORED[self.precision])
        for rows in _chunks(len(array)):
            codes[rows] = self._encoded(array[rows])
        if (share := self.clipped_share(array)) > _MANY_CLIPPED:
            logger.warning("%.1f%% of the values lie outside the ranges and are clipped", 100 * share)
        return codes

    def clipped_share(self, embeddings: Numbers) -> float:
        """The share of values, from 0 to 1, that lie outside what can be stored and become its nearest end."""
        array = self._checked(embeddings)
        limits = self._limits
        if limits is None or not array.size:
            return 0.0
        outside = sum(
            np.count_nonzero((array[rows] < limits[0]) | (array[rows] > limits[1])) for rows in _chunks(len(array))
        )
        return outside / array.size

    def dequantize(self, codes: AnyArray) -> AnyArray:
        """What `quantize` gave, as embeddings [N, D] float32.

        They are off by at most half a step, which is 1/510 of the dimension's range, with "int8" and "uint8". With
        "binary" and "ubinary" each number is ±1/√D, so that rows have length 1.

        Raises:
            ValueError: if `quantize` of this quantizer cannot have given the codes.
        """
        self.check(codes)
        if self.ranges is not None:
            lowest, step = self.ranges[0], self.steps
            return lowest + (codes.astype(np.float32) + (_SIGNED if self.precision == "int8" else 0)) * step
        if self._is_binary:
            bits = np.unpackbits(_unsigned(codes), axis=1, count=self.dimensions)
            return (bits * np.float32(2) - 1) / np.float32(self.dimensions**0.5)
        return codes.astype(np.float32, copy=False)

    @property
    def steps(self) -> AnyArray:
        """[D] float32, how far apart neighbouring values of "int8" and "uint8" are; 0 in a constant dimension."""
        if self.ranges is None:
            raise ValueError(f"precision {self.precision!r} has no steps")
        steps: AnyArray = (self.ranges[1] - self.ranges[0]) / np.float32(_STEPS)
        return steps

    def check(self, codes: AnyArray) -> None:
        """Refuse codes of another kind.

        Raises:
            ValueError: if `quantize` of this quantizer cannot have given them.
        """
        columns = -(-self.dimensions // 8) if self._is_binary else self.dimensions
        stored = np.dtype(_STORED[self.precision])
        if codes.ndim != 2 or codes.shape[1] != columns or codes.dtype != stored:
            raise ValueError(
                f"codes of shape {list(codes.shape)} and type {codes.dtype}; "
                f"{self.precision!r} of {self.dimensions} dimensions has [N, {columns}] of {stored}"
            )

    def save(self, codes: AnyArray, file: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write codes and ranges into one safetensors file, whole or not at all.

        Args:
            codes: what `quantize` gave.
            file: where to.
            overwrite: replace a file that is there already.

        Raises:
            OSError: if something is there already, or it cannot be written.
            ValueError: for codes of another kind.
        """
        self.check(codes)
        file = Path(file)
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file}: exists already; choose another name, or pass overwrite=True")
        tensors = {"embeddings": np.ascontiguousarray(codes)}
        if self.ranges is not None:
            tensors["ranges"] = self.ranges
        # One entry: safetensors writes several in any order, and equal embeddings should make equal files.
        metadata = {_METADATA: json.dumps({"precision": self.precision, "dimensions": self.dimensions})}
        with new_file(file, overwrite) as partial:
            partial.touch()
            mode = partial.stat().st_mode  # the writer of safetensors makes private files
            save_file(tensors, partial, metadata=metadata)
            partial.chmod(mode)

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> tuple["Quantizer", AnyArray]:
        """Read what `save` wrote; nothing in it is executed.

        Returns:
            The quantizer and the codes. These stay in the file and are read from there as they are used.

        Raises:
            OSError: if there is no such file.
            ValueError: if it is damaged or another kind of file.
        """
        try:
            with safe_open(file, "pt") as tensors:  # "numpy" would copy them into memory
                metadata = json.loads((tensors.metadata() or {})[_METADATA])
                ranges = tensors.get_tensor("ranges").numpy() if "ranges" in tensors.keys() else None  # noqa: SIM118
                quantizer = cls(metadata["precision"], metadata["dimensions"], ranges)
                codes: AnyArray = tensors.get_tensor("embeddings").numpy()
            quantizer.check(codes)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: not a file of quantized embeddings ({error})") from error
        return quantizer, codes

    @property
    def _has_ranges(self) -> bool:
        return self.precision in ("int8", "uint8")

    @property
    def _is_binary(self) -> bool:
        return self.precision in ("binary", "ubinary")

    @property
    def _limits(self) -> Any:
        """Lowest and highest number that can be stored; None if there is no such limit."""
        if self.precision == "float16":
            return -np.float32(np.finfo(np.float16).max), np.float32(np.finfo(np.float16).max)
        return self.ranges

    def _checked(self, embeddings: Numbers) -> AnyArray:
        array = _numbers(embeddings)
        if array.shape[1] != self.dimensions:
            raise ValueError(f"embeddings of {array.shape[1]} dimensions, the quantizer is for {self.dimensions}")
        return array

    def _encoded(self, rows: AnyArray) -> AnyArray:
        if self._limits is not None:
            rows = np.clip(rows, *self._limits)
        if self.ranges is not None:
            levels = np.zeros_like(rows)  # of a constant dimension
            np.divide(rows - self.ranges[0], self.steps, out=levels, where=self.steps > 0)
            bytes_ = np.clip(np.rint(levels), 0, _STEPS).astype(np.uint8)
        elif self._is_binary:
            bytes_ = np.packbits(rows > 0, axis=1)
        else:
            return rows.astype(_STORED[self.precision])
        return bytes_ if self.precision in ("uint8", "ubinary") else bytes_.view(np.int8) ^ np.int8(-_SIGNED)


def value_ranges(embeddings: AnyArray) -> AnyArray:
    """[2, D], the lowest and highest value of each dimension in [N, D]; zeros where there is no row."""
    if not len(embeddings):
        return np.zeros((2, embeddings.shape[1]), np.float32)
    return np.stack([embeddings.min(0), embeddings.max(0)])


def _unsigned(codes: AnyArray) -> AnyArray:
    """The bytes of "uint8" and "ubinary" behind those of "int8" and "binary"."""
    return codes if codes.dtype == np.uint8 else codes.view(np.uint8) ^ np.uint8(_SIGNED)


def _numbers(embeddings: Numbers) -> AnyArray:
    """[N, D] float32, finite."""
    if hasattr(embeddings, "detach"):
        embeddings = embeddings.detach().cpu().float().numpy()
    with np.errstate(over="ignore"):
        array = np.asarray(embeddings, np.float32)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"embeddings of shape {list(array.shape)}, expected [N, D]")
    for rows in _chunks(len(array)):
        bad = np.flatnonzero(~np.isfinite(array[rows]).all(1))
        if len(bad):
            raise ValueError(f"embedding {rows.start + bad[0]} holds NaN, infinity or too large a number")
    return array


def _chunks(count: int) -> list[slice]:
    """So that what is computed on the way takes little memory."""
    return [slice(start, min(start + _ROWS_A_CHUNK, count)) for start in range(0, count, _ROWS_A_CHUNK)]
