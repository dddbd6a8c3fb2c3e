"""The nearest of many unit vectors that are stored in fewer bytes, with FAISS or NumPy."""

from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import AnyArray
from .quantizer import Quantizer, value_ranges
from .vectors import FloatVectors, IndexType, Precision, has_faiss, nearest

# What the vectors of each are stored as, and may be; "binary" searches their signs first.
_STORED = {"float16": "float16", "int8": "uint8", "binary": "uint8"}
_MAY_BE_STORED = {"float16": ("float16",), "int8": ("uint8",), "binary": ("uint8", "float32")}
_FILE = "embeddings.safetensors"
_ROWS_A_CHUNK = 65_536


class QuantizedVectors:
    """Unit vectors [N, D] in float16, 8 bits or 1 bit a dimension, searched by their inner product with float queries.

    With "float16" and "int8" the search compares the query, as it is, with all stored vectors. With "binary" it
    compares signs first and takes `k * rescore_multiplier` candidates; their inner products with the query then decide,
    for which the vectors are stored in 8 bits too, or as they are. Those stay in the file if they came from one.

    Args:
        embeddings: [N, D] float32 rows of length 1. They fix the ranges of the 8 bits.
        precision: "float16", "int8" or "binary".
        rescore_multiplier: candidates for each vector to find, of "binary" alone.

    Raises:
        ValueError: for another precision or multiplier, or signs that tell no vector from another.
    """

    index_type: IndexType = "exact"

    def __init__(self, embeddings: AnyArray, precision: Precision, rescore_multiplier: int = 4):
        if precision not in _STORED:
            raise ValueError(f"precision is one of float32, {', '.join(_STORED)}, got {precision!r}")
        if rescore_multiplier < 1:
            raise ValueError(f"rescore_multiplier must be at least 1, got {rescore_multiplier}")
        ranges = value_ranges(embeddings) if _STORED[precision] == "uint8" else None
        quantizer = Quantizer(_STORED[precision], embeddings.shape[1], ranges)
        self._hold(quantizer, quantizer.quantize(embeddings), precision, rescore_multiplier)
        self.nbytes = self._searched.nbytes + (self._codes.nbytes if precision == "binary" else 0)

    @classmethod
    def in_place(cls, embeddings: AnyArray, rescore_multiplier: int = 4) -> "QuantizedVectors":
        """Hold the signs alone; candidates are rescored by the rows of length 1 where they lie, as in a mapped file."""
        vectors = cls(embeddings[:0], "binary", rescore_multiplier)
        vectors._hold(Quantizer("float32", embeddings.shape[1]), embeddings, "binary", rescore_multiplier)
        vectors.nbytes = vectors._searched.nbytes
        return vectors

    def _hold(self, quantizer: Quantizer, codes: AnyArray, precision: Precision, multiplier: int) -> None:
        self.precision, self.rescore_multiplier = precision, multiplier
        self.shape = (len(codes), quantizer.dimensions)
        self._quantizer = quantizer
        self._searched = codes
        if precision == "binary":
            self._signs = Quantizer("ubinary", quantizer.dimensions)
            self._searched = self._all_signs(codes)
        self._faiss: Any = None
        if has_faiss() and len(codes):
            self._faiss = _binary_index(self._searched) if precision == "binary" else _index(quantizer, codes)
            self._searched = _held(self._faiss, self._searched)
        # By these candidates are rescored; without rescoring they are those that are searched.
        self._codes = codes if precision == "binary" else self._searched

    def _all_signs(self, codes: AnyArray) -> AnyArray:
        """[N, ceil(D / 8)] of the stored vectors, not of the original ones: the file gives the same ones later."""
        signs = np.empty((len(codes), -(-self.shape[1] // 8)), np.uint8)
        for start in range(0, len(codes), _ROWS_A_CHUNK):
            rows = slice(start, start + _ROWS_A_CHUNK)
            signs[rows] = self._signs.quantize(self._quantizer.dequantize(codes[rows]))
        if len(signs) > self.rescore_multiplier and (signs == signs[0]).all() and (codes != codes[0]).any():
            raise ValueError(f"all {len(signs)} embeddings have the same signs: binary tells none apart, use int8")
        return signs

    def search(self, queries: AnyArray, k: int) -> tuple[AnyArray, AnyArray]:
        """The k nearest of each query.

        Args:
            queries: [Q, D] float32 rows of length 1.
            k: how many; all vectors if there are fewer.

        Returns:
            Inner products of the queries with the stored vectors, and indices, each [Q, min(k, N)], best first.
        """
        k = min(k, len(self))
        if self.precision == "binary":
            return self._rescored(queries, self._candidates(queries, min(k * self.rescore_multiplier, len(self))), k)
        if self._faiss is None:
            return nearest(self._searched, queries, k, self._similarities)
        scores, indices = self._faiss.search(queries, k)
        return scores, indices

    def _candidates(self, queries: AnyArray, count: int) -> AnyArray:
        signs = self._signs.quantize(queries)
        if self._faiss is None:
            return nearest(self._searched, signs, count, _sign_similarities)[1]
        indices: AnyArray = self._faiss.search(signs, count)[1]
        return indices

    def _rescored(self, queries: AnyArray, candidates: AnyArray, k: int) -> tuple[AnyArray, AnyArray]:
        scores, indices = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        for row, (query, numbers) in enumerate(zip(queries, candidates, strict=True)):
            exact = self._quantizer.dequantize(self._codes[numbers]) @ query
            best = np.argsort(-exact, kind="stable")[:k]
            scores[row], indices[row] = exact[best], numbers[best]
        return scores, indices

    def _similarities(self, queries: AnyArray, codes: AnyArray) -> AnyArray:
        return queries @ self._quantizer.dequantize(codes).T

    def __len__(self) -> int:
        return self.shape[0]

    def save(self, folder: Path) -> str:
        """Write the vectors and their ranges into a folder.

        Returns:
            The name of the file.
        """
        self._quantizer.save(self._codes, folder / _FILE)
        return _FILE

    @classmethod
    def load(cls, path: Path, precision: Precision, rescore_multiplier: int) -> "QuantizedVectors":
        """Read the file that `save` wrote."""
        quantizer, codes = Quantizer.load(path)
        if quantizer.precision not in _MAY_BE_STORED[precision]:
            raise ValueError(f"{path.name}: holds {quantizer.precision}, not what {precision} needs")
        vectors = cls.__new__(cls)
        vectors._hold(quantizer, codes, precision, rescore_multiplier)
        if vectors._searched is codes:
            vectors._searched = vectors._codes = codes.copy()  # read again and again
        vectors.nbytes = vectors._searched.nbytes
        return vectors


def searchable(
    embeddings: AnyArray,
    index_type: IndexType | None,
    precision: Precision,
    rescore_multiplier: int,
    *,
    in_place: bool = False,
) -> FloatVectors | QuantizedVectors:
    """Vectors of any precision.

    Args:
        embeddings: [N, D] float32 rows of length 1.
        index_type: see `FloatVectors`; what is not float32 is searched exactly.
        precision: "float32" or what `QuantizedVectors` knows.
        rescore_multiplier: see `QuantizedVectors`.
        in_place: leave the rows where they lie, such as in a mapped file, as far as the other options allow.

    Raises:
        ValueError: for options that do not exist or fit.
    """
    if precision == "float32":
        in_place = in_place and index_type == "exact"
        return FloatVectors.in_place(embeddings) if in_place else FloatVectors(embeddings, index_type)
    if index_type not in (None, QuantizedVectors.index_type):
        raise ValueError(f"index_type {index_type!r} needs precision 'float32', got {precision!r}")
    if in_place and precision == "binary":
        return QuantizedVectors.in_place(embeddings, rescore_multiplier)
    return QuantizedVectors(embeddings, precision, rescore_multiplier)


def _index(quantizer: Quantizer, codes: AnyArray) -> Any:
    """FAISS's scalar quantizer over our codes."""
    import faiss

    parameters: Any = faiss  # its stubs lack some
    kind = faiss.ScalarQuantizer.QT_fp16 if quantizer.ranges is None else faiss.ScalarQuantizer.QT_8bit
    index = parameters.IndexScalarQuantizer(quantizer.dimensions, kind, faiss.METRIC_INNER_PRODUCT)
    if quantizer.ranges is not None:
        # FAISS decodes to the middle of 255 steps, lowest + width * (code + 0.5) / 255; ours begin at a whole code.
        lowest, step = quantizer.ranges[0], quantizer.steps
        parameters.copy_array_to_vector(np.concatenate([lowest - step / 2, step * 255]), index.sq.trained)
    index.is_trained = True
    index.add_sa_codes(np.ascontiguousarray(codes).view(np.uint8))
    return index


def _binary_index(signs: AnyArray) -> Any:
    import faiss

    index = faiss.IndexBinaryFlat(8 * signs.shape[1])
    index.add(signs)
    return index


def _held(index: Any, codes: AnyArray) -> AnyArray:
    """The codes where FAISS holds them, so that memory holds them once. They live as long as the index."""
    import faiss

    parameters: Any = faiss
    memory = index.codes if hasattr(index, "codes") else index.xb
    held: AnyArray = parameters.rev_swig_ptr(memory.data(), codes.nbytes)
    return held.view(codes.dtype).reshape(codes.shape)


def _sign_similarities(queries: AnyArray, signs: AnyArray) -> AnyArray:
    """[Q, N] in [-1, 1] from packed signs: 1 less twice the share of bits that differ."""
    queries, signs = _words(queries), _words(signs)
    differing = [np.bitwise_count(signs ^ query).sum(1, dtype=np.uint16) for query in queries]
    return 1 - np.array(differing, np.float32).reshape(len(queries), len(signs)) / (32 * signs.shape[1])


def _words(signs: AnyArray) -> AnyArray:
    """Rows of bytes as rows of 64-bit words, which are counted faster."""
    padded = np.pad(signs, ((0, 0), (0, -signs.shape[1] % 8)))
    return np.ascontiguousarray(padded).view(np.uint64)
