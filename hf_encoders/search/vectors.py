"""The nearest of many unit vectors: FAISS through `datasets`, or NumPy and PyTorch where faiss is not installed."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from datasets.search import FaissIndex
from safetensors.numpy import load_file, save_file

from ..arrays import AnyArray, Indices, Vectors
from ..progress import no_progress_bars
from ..top_k import top_k

Precision = Literal["float32", "float16", "int8", "binary"]
IndexType = Literal["exact", "hnsw", "ivf"]
INDEX_TYPES: tuple[IndexType, ...] = ("exact", "hnsw", "ivf")
# Exact search of this many rows of 256 numbers takes 1 GB, and about 0.1 s per query. Larger indexes use HNSW.
EXACT_ROWS = 1_000_000

_TENSOR_FILE, _FAISS_FILE = "embeddings.safetensors", "embeddings.faiss"
_ROWS_PER_CHUNK = 65_536
_QUERIES_PER_CHUNK = 256
_LINKS = 32  # of a node in the HNSW graph

# Queries [Q, ...] and embeddings [M, ...] → similarities [Q, M] float32.
Similarities: TypeAlias = Callable[[AnyArray, AnyArray], Vectors]


class FloatVectors:
    """Unit vectors [N, D] in float32 that are searched by their inner product, which is the cosine.

    Args:
        embeddings: [N, D] float32 rows of length 1.
        index_type: "exact"; "hnsw" (a graph) or "ivf" (cells) give up a little recall for speed; None is "exact" up to
            `EXACT_ROWS` rows or where faiss is not installed, else "hnsw".

    Raises:
        ValueError: for another type, or one that needs faiss where it is not installed.
    """

    precision: Precision = "float32"

    def __init__(self, embeddings: Vectors, index_type: IndexType | None = None):
        if index_type is None:
            index_type = "hnsw" if len(embeddings) > EXACT_ROWS and has_faiss() else "exact"
        if index_type not in INDEX_TYPES:
            raise ValueError(f"index_type is one of {', '.join(INDEX_TYPES)} or None, got {index_type!r}")
        if index_type != "exact":
            _need_faiss(index_type)
        self.index_type = index_type
        self.shape: tuple[int, int] = embeddings.shape
        # One of the two holds the vectors. FAISS makes no index of nothing.
        self._embeddings = embeddings
        self._faiss: FaissIndex | None = None
        if has_faiss() and len(embeddings):
            self._faiss = _faiss_index(embeddings, index_type)
            self._embeddings = embeddings[:0]

    @classmethod
    def in_place(cls, embeddings: Vectors) -> "FloatVectors":
        """Search rows of length 1 exactly where they lie, such as in a mapped file: FAISS would copy them."""
        vectors = cls(embeddings[:0], "exact")
        vectors.shape, vectors._embeddings = embeddings.shape, embeddings
        return vectors

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Indices]:
        """Find the k nearest of each query.

        Args:
            queries: [Q, D] float32 rows of length 1.
            k: how many; all vectors if there are fewer.

        Returns:
            Cosines and indices, each [Q, min(k, N)], best first. An index of -1 means that an approximate search found
            fewer.
        """
        k = min(k, len(self))
        if self._faiss is None:
            return nearest(self._embeddings, queries, k)
        options = _search_options(self.index_type, self._faiss, k)
        found = self._faiss.search_batch(queries, k, **options)
        return found.total_scores, found.total_indices

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors in memory, without an approximate index's links; 0 if they lie in a mapped file."""
        if self._faiss is None and isinstance(self._embeddings, np.memmap):
            return 0
        return self.shape[0] * self.shape[1] * np.dtype(np.float32).itemsize

    def save(self, folder: Path) -> str:
        """Write the vectors into a folder: plain tensors for exact search, FAISS's own file otherwise.

        Returns:
            The name of the file.
        """
        if self._faiss is not None and self.index_type != "exact":
            self._faiss.save(folder / _FAISS_FILE)
            return _FAISS_FILE
        exact = self._embeddings if self._faiss is None else self._faiss.faiss_index.reconstruct_n(0, len(self))
        save_file({"embeddings": exact}, folder / _TENSOR_FILE)
        return _TENSOR_FILE

    @classmethod
    def load(cls, path: Path, index_type: IndexType) -> "FloatVectors":
        """Read the file that `save` wrote.

        Raises:
            ValueError: if it needs faiss, which is not installed.
        """
        if path.name == _TENSOR_FILE:
            return cls(load_file(path)["embeddings"], index_type)
        _need_faiss(index_type)
        vectors = cls.__new__(cls)
        vectors.index_type = index_type
        vectors._faiss = FaissIndex.load(path)
        vectors.shape = (vectors._faiss.faiss_index.ntotal, vectors._faiss.faiss_index.d)
        vectors._embeddings = np.empty((0, vectors.shape[1]), np.float32)
        return vectors


def has_faiss() -> bool:
    """Whether faiss can be imported."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def _need_faiss(index_type: IndexType) -> None:
    if not has_faiss():
        raise ValueError(f"index_type={index_type!r} needs faiss: pip install 'hf-encoders[search]'")


def _faiss_index(embeddings: Vectors, index_type: IndexType) -> FaissIndex:
    import faiss

    factory = {"exact": None, "hnsw": f"HNSW{_LINKS}", "ivf": f"IVF{_cells(len(embeddings))},Flat"}[index_type]
    index = FaissIndex(string_factory=factory, metric_type=faiss.METRIC_INNER_PRODUCT)
    # k-means samples its training rows among all: the first ones alone may be of one kind.
    train_size = len(embeddings) if index_type == "ivf" else None
    with no_progress_bars():
        index.add_vectors(embeddings, batch_size=10_000, train_size=train_size)
    return index


def _cells(count: int) -> int:
    """As FAISS recommends: 4 √N cells, of at least 39 vectors each."""
    return max(1, min(int(4 * count**0.5), count // 39))


def _search_options(index_type: IndexType, index: FaissIndex, k: int) -> dict[str, object]:
    """Look further than FAISS does by default: one cell or 16 candidates, too few for good recall or a large k."""
    import faiss

    if index_type == "hnsw":
        return {"params": faiss.SearchParametersHNSW(efSearch=max(128, 2 * k))}  # type: ignore[attr-defined]  # not in its stubs
    if index_type == "ivf":
        cells = max(8, index.faiss_index.nlist // 16)
        return {"params": faiss.SearchParametersIVF(nprobe=cells)}  # type: ignore[call-arg]  # not in its stubs
    return {}


def _cosines(queries: Vectors, embeddings: Vectors) -> Vectors:
    return queries @ embeddings.T


def nearest(
    embeddings: AnyArray, queries: AnyArray, k: int, similarities: Similarities = _cosines
) -> tuple[Vectors, Indices]:
    """Search exactly, in memory that does not grow with the number of embeddings.

    Args:
        embeddings: N rows.
        queries: Q rows.
        k: how many to find, at most N.
        similarities: compares queries with some embeddings; by default by their inner products.

    Returns:
        Similarities and numbers of the rows, each [Q, k], best first.
    """
    scores: list[Vectors] = []
    indices: list[Indices] = []
    for first in range(0, max(len(queries), 1), _QUERIES_PER_CHUNK):
        some = queries[first : first + _QUERIES_PER_CHUNK]
        chunks = (
            torch.from_numpy(np.asarray(similarities(some, embeddings[start : start + _ROWS_PER_CHUNK])))
            for start in range(0, max(len(embeddings), 1), _ROWS_PER_CHUNK)
        )
        values, numbers = top_k(chunks, k)
        scores.append(values.numpy())
        indices.append(numbers.numpy())
    return np.concatenate(scores), np.concatenate(indices)
