"""Exact search of arrays with NumPy and PyTorch: float32, in memory or in a mapped file; fewer bits without FAISS."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..arrays import AnyArray, Indices, Mask, Vectors
from ..top_k import top_k
from .quantizer import Quantizer, value_ranges
from .row_blocks import RowBlocks
from .vectors import Precision, SearchedVectors

FILE = "embeddings.safetensors"
_QUERIES_PER_CHUNK = 256
# What vectors are stored as. "binary" needs FAISS to be found by their signs; here their 8 bits are compared.
_STORED = {"float32": "float32", "float16": "float16", "int8": "uint8", "binary": "uint8"}
_MAY_BE_STORED = {
    "float32": ("float32",),
    "float16": ("float16",),
    "int8": ("uint8",),
    "binary": ("uint8", "float32"),
}


class ArrayVectors(SearchedVectors):
    """Unit vectors that are all compared with the query.

    Args:
        embeddings: [N, D] float32 rows of length 1. They fix the ranges of 8 bits.
        precision: "float32", "float16", "int8", or "binary", which is as exact as "int8".
        in_place: search the rows where they lie, such as in a mapped file, in float32.
    """

    index_type = "exact"

    def __init__(self, embeddings: Vectors, precision: Precision = "float32", *, in_place: bool = False):
        self.precision, self.dimensions = precision, embeddings.shape[1]
        self._kind = "float32" if in_place else _STORED[precision]
        self._build(RowBlocks(embeddings, mapped=in_place))

    @classmethod
    def load(cls, path: Path, precision: Precision, trained_rows: int | None = None) -> "ArrayVectors":
        """Map the file that `save` wrote.

        Args:
            path: the file.
            precision: of the vectors in it.
            trained_rows: how many vectors fixed the ranges; by default all.

        Raises:
            ValueError: if it holds something else.
        """
        quantizer, codes = _map_plain(path) if precision == "float32" else Quantizer.load(path)
        if quantizer.precision not in _MAY_BE_STORED[precision]:
            raise ValueError(f"{path.name}: holds {quantizer.precision}, not what {precision} needs")
        vectors = cls.__new__(cls)
        vectors.precision, vectors.dimensions = precision, quantizer.dimensions
        vectors._kind = quantizer.precision
        vectors._quantizer, vectors._codes = quantizer, RowBlocks(codes, mapped=True)
        if quantizer.ranges is not None:
            vectors.trained_rows = len(codes) if trained_rows is None else trained_rows
        return vectors

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors in memory; 0 if they lie in a mapped file."""
        return self._codes.nbytes

    @property
    def _stored(self) -> int:
        return len(self._codes)

    def _search(self, queries: Vectors, k: int, allowed: Mask | None) -> tuple[Vectors, Indices]:
        return nearest(self._codes, queries, k, self._quantizer.dequantize, allowed)

    def _build(self, rows: RowBlocks) -> None:
        if self._kind == "float32":
            self._quantizer, self._codes = Quantizer("float32", self.dimensions), rows
            return
        vectors, ranges = rows.array(), None
        if self._kind == "uint8":
            self.trained_rows, ranges = len(vectors), value_ranges(vectors)
        self._quantizer = Quantizer(self._kind, self.dimensions, ranges)
        self._codes = RowBlocks(self._quantizer.quantize(vectors))

    def _decoded(self) -> RowBlocks:
        return RowBlocks(self._quantizer.dequantize(self._codes.array()))

    def _add(self, vectors: Vectors) -> None:
        self._codes.append(vectors if self._kind == "float32" else self._quantizer.quantize(vectors))

    def _keep(self, kept: Mask) -> None:
        self._codes.keep(kept)

    def _write(self, folder: Path) -> str:
        self._quantizer.save(self._codes.array(), folder / FILE)
        return FILE


def nearest(
    rows: RowBlocks, queries: Vectors, k: int, decoded: Callable[[AnyArray], Vectors], allowed: Mask | None = None
) -> tuple[Vectors, Indices]:
    """Search exactly, in memory that does not grow with the number of rows.

    Args:
        rows: N of them.
        queries: [Q, D].
        k: how many to find, at most as many as are allowed.
        decoded: makes vectors [M, D] float32 of rows.
        allowed: [N], which rows may be found; by default all.

    Returns:
        Inner products and numbers of the rows, each [Q, k], best first.
    """
    scores: list[Vectors] = []
    numbers: list[Indices] = []
    for first in range(0, max(len(queries), 1), _QUERIES_PER_CHUNK):
        some = queries[first : first + _QUERIES_PER_CHUNK]
        values, found = top_k((torch.from_numpy(some @ decoded(part).T) for part in rows.parts(allowed)), k)
        scores.append(values.numpy())
        numbers.append(found.numpy())
    found_rows = np.concatenate(numbers)
    return np.concatenate(scores), found_rows if allowed is None else np.flatnonzero(allowed)[found_rows]


def _map_plain(path: Path) -> tuple[Quantizer, Vectors]:
    """Vectors in float32, which the first releases wrote without what a `Quantizer` writes."""
    try:
        with safe_open(path, "pt") as tensors:  # "numpy" would copy them into memory
            vectors: Vectors = tensors.get_tensor("embeddings").numpy()
        quantizer = Quantizer("float32", vectors.shape[1])
        quantizer.check(vectors)
    except (SafetensorError, IndexError) as error:
        raise ValueError(f"{path.name}: not a file of embeddings ({error})") from error
    return quantizer, vectors
