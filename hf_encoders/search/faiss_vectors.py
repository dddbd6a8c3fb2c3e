"""Vectors in FAISS's indexes: approximate search, and exact search in fewer bits."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Indices, Mask, Vectors
from .row_blocks import RowBlocks
from .vectors import IndexType, Precision, SearchedVectors

FILE = "embeddings.faiss"
# FAISS's names of what a number is stored as, by itself, at the nodes of a graph, and in cells. Where signs alone are
# searched, the candidates are rescored by 8 bits.
_EXACT = {"float16": "SQfp16", "int8": "SQ8", "binary": "RaBitQ"}
_HNSW = {"float32": "HNSW32", "float16": "HNSW32_SQfp16", "int8": "HNSW32_SQ8"}
_IVF = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8", "binary": "RaBitQ"}
_RESCORED = ",Refine(SQ8)"
# A smaller share of rows that may be found is searched exhaustively: a graph would hardly meet them.
_LEAST_SHARE = 0.1


class FaissVectors(SearchedVectors):
    """Unit vectors in an index that FAISS's factory makes.

    Args:
        embeddings: [N, D] float32 rows of length 1.
        index_type: "exact" ("float16", "int8" and "binary" alone), "hnsw" (a graph; not "binary") or "ivf" (cells).
        precision: "float32", "float16", "int8" or "binary": signs about the mean or the cell's centre, whose best
            candidates are rescored.
        rescore_multiplier: candidates per vector to find, of "binary" alone.
        in_place: the embeddings lie in a mapped file. Then "binary" rescores by them, and holds no 8 bits.

    Raises:
        ValueError: for a graph of signs, or where faiss is not installed.
    """

    def __init__(
        self,
        embeddings: Vectors,
        index_type: IndexType,
        precision: Precision,
        rescore_multiplier: int = 4,
        *,
        in_place: bool = False,
    ):
        if index_type == "hnsw" and precision == "binary":
            raise ValueError(
                "index_type 'hnsw' has no precision 'binary': its links take more than 'int8'; use that, or 'ivf'"
            )
        need_faiss(index_type, precision)
        self.index_type, self.precision, self.dimensions = index_type, precision, embeddings.shape[1]
        self.rescore_multiplier = rescore_multiplier if precision == "binary" else 1
        rows = RowBlocks(embeddings, mapped=in_place)
        self._rescored_by = rows if in_place and precision == "binary" else None
        self._build(rows)

    @classmethod
    def load(
        cls,
        path: Path,
        index_type: IndexType,
        precision: Precision,
        rescore_multiplier: int = 1,
        trained_rows: int | None = None,
    ) -> "FaissVectors":
        """Map the file that `save` wrote; where FAISS cannot map, read it.

        Args:
            path: the file.
            index_type: of the index in it, as for `precision` and `rescore_multiplier`.
            trained_rows: how many vectors fixed the ranges and cells; by default all.

        Raises:
            ValueError: where faiss is not installed.
        """
        need_faiss(index_type, precision)
        vectors = cls.__new__(cls)
        vectors.index_type, vectors.precision, vectors.rescore_multiplier = index_type, precision, rescore_multiplier
        vectors._rescored_by = None
        vectors._index, vectors._is_mapped = _opened(path)
        vectors.dimensions = vectors._index.d
        if _is_trained_by_rows(vectors._factory()):
            vectors.trained_rows = vectors._stored if trained_rows is None else trained_rows
        return vectors

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors in memory, without the links of a graph; 0 if they lie in a mapped file."""
        if self._is_mapped:
            return 0
        base = self._base
        holder = _faiss().downcast_index(base.storage) if self.index_type == "hnsw" else base
        refined: int = self.dimensions if _is_refined(self._index) else 0
        return self._stored * (int(holder.code_size) + refined)

    @property
    def _stored(self) -> int:
        count: int = self._index.ntotal
        return count

    @property
    def _base(self) -> Any:
        """The index without what rescores."""
        return _faiss().downcast_index(self._index.base_index) if _is_refined(self._index) else self._index

    def _factory(self, count: int = 1) -> str:
        if self.index_type == "hnsw":
            return _HNSW[self.precision]
        parts = f"IVF{_cells(count)},{_IVF[self.precision]}" if self.index_type == "ivf" else _EXACT[self.precision]
        return parts + _RESCORED if self.precision == "binary" and self._rescored_by is None else parts

    def _build(self, rows: RowBlocks) -> None:
        faiss = _faiss()
        factory = self._factory(len(rows))
        self._index = faiss.index_factory(self.dimensions, factory, faiss.METRIC_INNER_PRODUCT)
        self._is_mapped = False
        self.trained_rows = len(rows) if _is_trained_by_rows(factory) else None
        if self.index_type == "ivf":
            self._base.cp.min_points_per_centroid = 1  # FAISS warns on stderr of few rows
        if len(rows):
            # All rows: the first ones alone may be of one kind. FAISS takes of them what its k-means needs.
            self._index.train(rows.array())
            for part in rows.parts():
                self._index.add(part)

    def _decoded(self) -> RowBlocks:
        if self._rescored_by is not None:
            return self._rescored_by
        if not self._stored:  # ranges and cells may be missing
            return RowBlocks(np.empty((0, self.dimensions), np.float32))
        return RowBlocks(self._index.reconstruct_n(0, self._stored))

    def _add(self, vectors: Vectors) -> None:
        self._own()
        self._index.add(vectors)
        if self._rescored_by is not None:
            self._rescored_by.append(vectors)

    def _keep(self, kept: Mask) -> None:
        rows = self._decoded()
        if rows is self._rescored_by:
            rows.keep(kept)
            kept = np.ones(len(rows), bool)
        self._own()
        self._index.reset()  # it keeps ranges and cells
        for part in rows.parts(kept):
            self._index.add(part)

    def _own(self) -> None:
        """Take a mapped index into memory: FAISS ends the process where such a one is changed."""
        if self._is_mapped:
            faiss = _faiss()
            self._index, self._is_mapped = faiss.deserialize_index(faiss.serialize_index(self._index)), False

    def _write(self, folder: Path) -> str:
        index = self._index
        if self._rescored_by is not None:  # rows of a file that stays elsewhere
            rows = self._rescored_by.array()
            index = FaissVectors(rows, self.index_type, self.precision, self.rescore_multiplier)._index
        _faiss().write_index(index, str(folder / FILE))
        return FILE

    def _search(self, queries: Vectors, k: int, allowed: Mask | None) -> tuple[Vectors, Indices]:
        faiss = _faiss()
        if self._rescored_by is None and _is_refined(self._index):
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=self.rescore_multiplier, base_index_params=self._parameters(k, allowed)
            )
            scores, numbers = self._index.search(queries, k, params=parameters)
            return scores, numbers
        if self._rescored_by is None:
            return self._search_base(queries, k, allowed)
        count = min(k * self.rescore_multiplier, self._stored)
        return _rescored(self._rescored_by, queries, self._search_base(queries, count, allowed)[1], k)

    def _search_base(self, queries: Vectors, k: int, allowed: Mask | None) -> tuple[Vectors, Indices]:
        searched = self._index
        if self.index_type == "hnsw" and _share(allowed) < _LEAST_SHARE:
            searched = self._index.storage
        scores, numbers = searched.search(queries, k, params=self._parameters(k, allowed))
        return scores, numbers

    def _parameters(self, k: int, allowed: Mask | None) -> Any:
        """Look further than FAISS does by default: one cell or 16 candidates, too few for good recall or a large k."""
        faiss = _faiss()
        share = _share(allowed)
        selector: dict[str, Any] = {}
        if allowed is not None:
            selector["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self.index_type == "ivf":
            cells = self._base.nlist
            visited = cells if share < _LEAST_SHARE else min(cells, int(max(8, cells // 16) / share))
            return faiss.SearchParametersIVF(nprobe=visited, **selector)
        if self.index_type == "hnsw" and share >= _LEAST_SHARE:
            return faiss.SearchParametersHNSW(efSearch=int(max(128, 2 * k) / share), **selector)
        return faiss.SearchParameters(**selector) if selector else None


def has_faiss() -> bool:
    """Whether faiss can be imported."""
    try:
        _faiss()
    except ImportError:
        return False
    return True


def need_faiss(index_type: IndexType, precision: Precision) -> None:
    """Refuse what is searched with FAISS alone, where it is not installed.

    Raises:
        ValueError: says what to install.
    """
    if not has_faiss():
        what = f"precision={precision!r} in this file" if index_type == "exact" else f"index_type={index_type!r}"
        raise ValueError(f"{what} needs faiss: pip install 'hf-encoders[search]'")


def _faiss() -> Any:
    """FAISS, whose stubs lack much of what it has."""
    return import_module("faiss")


def _opened(path: Path) -> tuple[Any, bool]:
    """The index in a file, and whether it is mapped, which FAISS cannot on every system."""
    faiss = _faiss()
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), True
    except RuntimeError:
        return faiss.read_index(str(path)), False


def _is_refined(index: Any) -> bool:
    return isinstance(index, _faiss().IndexRefine)


def _is_trained_by_rows(factory: str) -> bool:
    """Whether rows fix ranges, a mean or cells."""
    return factory.startswith("IVF") or "SQ8" in factory or "RaBitQ" in factory


def _cells(count: int) -> int:
    """As FAISS recommends: 4 √N cells, of at least 39 vectors each."""
    return max(1, min(int(4 * count**0.5), count // 39))


def _share(allowed: Mask | None) -> float:
    return 1.0 if allowed is None else float(np.mean(allowed))


def _rescored(rows: RowBlocks, queries: Vectors, candidates: Indices, k: int) -> tuple[Vectors, Indices]:
    """The best k candidates [Q, C] by the rows themselves; -1 where there are fewer."""
    scores = np.full((len(queries), k), -np.inf, np.float32)
    numbers = np.full((len(queries), k), -1, np.int64)
    for row, (query, found) in enumerate(zip(queries, candidates, strict=True)):
        found = found[found >= 0]
        exact = rows.take(found) @ query
        best = np.argsort(-exact, kind="stable")[:k]
        scores[row, : len(best)], numbers[row, : len(best)] = exact[best], found[best]
    return scores, numbers
