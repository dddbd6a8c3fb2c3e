"""The nearest of many unit vectors: FAISS through `datasets`, or NumPy where faiss is not installed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets.search import FaissIndex
from safetensors.numpy import load_file, save_file

from ..progress import no_progress_bars

INDEX_TYPES = ("exact", "hnsw", "ivf")
# Exact search of so many rows of 256 numbers takes 1 GB, and about a tenth of a second a query; above it is HNSW.
EXACT_ROWS = 1_000_000

_TENSOR_FILE, _FAISS_FILE = "embeddings.safetensors", "embeddings.faiss"
_ROWS_A_CHUNK, _QUERIES_A_CHUNK = 65_536, 256
_LINKS = 32  # of a node in the HNSW graph
_WORST = -2.0  # below any cosine


class Vectors:
    """Unit vectors [N, D] that are searched by their inner product, which is the cosine.

    Args:
        embeddings: [N, D] float32 rows of length 1.
        index_type: "exact"; "hnsw" (a graph) or "ivf" (cells) give up a little recall for speed; None is "exact" up to
            `EXACT_ROWS` rows or where faiss is not installed, else "hnsw".

    Raises:
        ValueError: for another type, or one that needs faiss where it is not installed.
    """

    precision = "float32"

    def __init__(self, embeddings: np.ndarray[Any, Any], index_type: str | None = None):
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
    def in_place(cls, embeddings: np.ndarray[Any, Any]) -> "Vectors":
        """Search rows of length 1 exactly, where they lie, such as in a mapped file: FAISS would copy them."""
        vectors = cls(embeddings[:0], "exact")
        vectors.shape, vectors._embeddings = embeddings.shape, embeddings
        return vectors

    def search(self, queries: np.ndarray[Any, Any], k: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The k nearest of each query.

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
        found = self._faiss.search_batch(queries, k, **_search_options(self.index_type, self._faiss.faiss_index, k))
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
    def load(cls, path: Path, index_type: str) -> "Vectors":
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


def unit_rows(embeddings: Any, truncate_dim: int | None = None) -> np.ndarray[Any, Any]:
    """Embeddings [N, D] (array or tensor) as float32, cut to the first `truncate_dim` dimensions, rows of length 1.

    Raises:
        ValueError: for another shape, more dimensions than there are, or a row without a direction (zeros, NaN).
    """
    if hasattr(embeddings, "detach"):
        embeddings = embeddings.detach().cpu().float().numpy()
    array = np.asarray(embeddings, np.float32)
    if array.ndim != 2:
        raise ValueError(f"embeddings of shape {list(array.shape)}, expected [N, D]")
    if truncate_dim is not None and not 1 <= truncate_dim <= array.shape[1]:
        raise ValueError(f"truncate_dim must be from 1 to {array.shape[1]}, got {truncate_dim}")
    array = array[:, :truncate_dim]
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        where = f" in its first {truncate_dim} dimensions" if truncate_dim else ""
        raise ValueError(f"embedding {bad[0]} has no direction{where}: it is all zeros, or holds NaN or infinity")
    return np.ascontiguousarray(array / lengths)


def has_faiss() -> bool:
    """Whether faiss can be imported."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


def _need_faiss(index_type: str) -> None:
    if not has_faiss():
        raise ValueError(f"index_type={index_type!r} needs faiss: pip install 'hf-encoders[search]'")


def _faiss_index(embeddings: np.ndarray[Any, Any], index_type: str) -> FaissIndex:
    import faiss

    factory = {"exact": None, "hnsw": f"HNSW{_LINKS}", "ivf": f"IVF{_cells(len(embeddings))},Flat"}[index_type]
    index = FaissIndex(string_factory=factory, metric_type=faiss.METRIC_INNER_PRODUCT)
    with no_progress_bars():
        # All rows, of which k-means takes a sample: the first ones alone may be of one kind.
        index.add_vectors(embeddings, batch_size=10_000, train_size=len(embeddings) if index_type == "ivf" else None)
    return index


def _cells(count: int) -> int:
    """As FAISS recommends: 4 √N cells, of at least 39 vectors each."""
    return max(1, min(int(4 * count**0.5), count // 39))


def _search_options(index_type: str, index: Any, k: int) -> dict[str, Any]:
    """FAISS looks at one cell, or at 16 candidates, unless told otherwise: too few for good recall or a large k."""
    import faiss

    parameters: Any = faiss  # its stubs lack some
    if index_type == "hnsw":
        return {"params": parameters.SearchParametersHNSW(efSearch=max(128, 2 * k))}
    if index_type == "ivf":
        return {"params": parameters.SearchParametersIVF(nprobe=max(8, index.nlist // 16))}
    return {}


def _cosines(queries: np.ndarray[Any, Any], embeddings: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return queries @ embeddings.T


def nearest(
    embeddings: np.ndarray[Any, Any],
    queries: np.ndarray[Any, Any],
    k: int,
    similarities: Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], np.ndarray[Any, Any]] = _cosines,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Exact search in memory that does not grow with the number of vectors.

    Args:
        embeddings: N rows.
        queries: Q rows.
        k: how many to find, at most N.
        similarities: of queries and some embeddings, [Q, M] float32 in [-1, 1]; by default their inner products.

    Returns:
        Similarities and indices, each [Q, k], best first.
    """
    parts = [
        _nearest_block(embeddings, queries[start : start + _QUERIES_A_CHUNK], k, similarities)
        for start in range(0, max(len(queries), 1), _QUERIES_A_CHUNK)
    ]
    scores, indices = zip(*parts, strict=True)
    return np.concatenate(scores), np.concatenate(indices)


def _nearest_block(
    embeddings: np.ndarray[Any, Any],
    queries: np.ndarray[Any, Any],
    k: int,
    similarities: Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], np.ndarray[Any, Any]],
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    best = np.full((len(queries), k), _WORST, np.float32)
    indices = np.full((len(queries), k), -1)
    for start in range(0, len(embeddings), _ROWS_A_CHUNK):
        chunk = similarities(queries, embeddings[start : start + _ROWS_A_CHUNK])
        numbers = np.broadcast_to(np.arange(start, start + chunk.shape[1]), chunk.shape)
        scores, numbers = np.hstack([best, chunk]), np.hstack([indices, numbers])
        kept = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        best, indices = np.take_along_axis(scores, kept, 1), np.take_along_axis(numbers, kept, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(best, order, 1), np.take_along_axis(indices, order, 1)
