"""What every kind of vectors can do: be searched, among some of them only, grow, shrink, and be saved."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import numpy as np

from ..arrays import Indices, Mask, Vectors
from .row_blocks import RowBlocks

Precision = Literal["float32", "float16", "int8", "binary"]
IndexType = Literal["exact", "hnsw", "ivf"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8", "binary")
INDEX_TYPES: tuple[IndexType, ...] = ("exact", "hnsw", "ivf")


class SearchedVectors(ABC):
    """Unit vectors [N, D] that are searched by their inner product with queries, which is the cosine.

    Vectors that are removed are passed over, and taken out when the others are saved: graphs cannot lose nodes. Numbers
    count those that are left.

    Attributes:
        precision: what a number is stored as.
        index_type: "exact", "hnsw" or "ivf".
        dimensions: D.
        rescore_multiplier: how many candidates per vector to find are compared anew; 1 if none are.
        trained_rows: how many vectors fixed the ranges and cells; None where none did.
    """

    precision: Precision
    index_type: IndexType
    dimensions: int
    rescore_multiplier: int = 1
    trained_rows: int | None = None
    _alive: Mask | None = None  # of the stored vectors; None if none was removed
    _number_among_alive: Indices | None = None  # of each stored vector

    def __len__(self) -> int:
        return self._stored if self._alive is None else int(np.count_nonzero(self._alive))

    @property
    def shape(self) -> tuple[int, int]:
        """How many there are, and their dimensions."""
        return len(self), self.dimensions

    def search(self, queries: Vectors, k: int, among: Mask | None = None) -> tuple[Vectors, Indices]:
        """Find the k nearest of each query.

        Args:
            queries: [Q, D] float32 rows of length 1.
            k: how many; all vectors if there are fewer.
            among: [N], which vectors may be found; by default all.

        Returns:
            Cosines and numbers, each [Q, K] for the smaller K of k and of those that may be found, best first; equal
            ones come in the order of their numbers. A number of -1 means that an approximate search found fewer.
        """
        k = min(k, len(self) if among is None else int(np.count_nonzero(among)))
        if not k:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores, numbers = self._search(queries, k, self._allowed(among))
        if self._number_among_alive is not None:
            numbers = np.where(numbers < 0, numbers, self._number_among_alive[numbers])
        order = np.lexsort((numbers, -scores), axis=-1)
        # Decoded vectors are not quite of length 1.
        return np.take_along_axis(scores, order, 1).clip(-1, 1), np.take_along_axis(numbers, order, 1)

    def add(self, vectors: Vectors) -> None:
        """Add vectors [M, D] of length 1 behind the others.

        Ranges and cells are those of the first vectors. Once there are twice as many, they are fixed anew, for which
        all vectors are decoded in memory; this happens seldom, and costs the older ones a rounding each time.
        """
        if self.trained_rows is not None and self._stored + len(vectors) > 2 * self.trained_rows:
            self._compact()
            rows = self._decoded()
            rows.append(vectors)
            self._build(rows)
            return
        self._add(vectors)
        if self._alive is not None:
            self._set_alive(np.concatenate([self._alive, np.ones(len(vectors), bool)]))

    def remove(self, removed: Mask) -> None:
        """Remove vectors.

        Args:
            removed: [N], which of those that are left.
        """
        alive = np.ones(self._stored, bool) if self._alive is None else self._alive.copy()
        alive[np.flatnonzero(alive)[removed]] = False
        self._set_alive(alive)

    def save(self, folder: Path) -> str:
        """Write the vectors that are left into a folder.

        Returns:
            The name of the file.
        """
        self._compact()
        return self._write(folder)

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of the vectors in memory, without the links of a graph; 0 if they lie in a mapped file."""

    @property
    @abstractmethod
    def _stored(self) -> int:
        """How many are stored, those among them that were removed."""

    @abstractmethod
    def _search(self, queries: Vectors, k: int, allowed: Mask | None) -> tuple[Vectors, Indices]:
        """Find k stored vectors, at least so many of which are allowed."""

    @abstractmethod
    def _build(self, rows: RowBlocks) -> None:
        """Hold these rows [N, D] float32 of length 1, and no others; fix ranges and cells by them."""

    @abstractmethod
    def _decoded(self) -> RowBlocks:
        """All stored vectors as float32."""

    @abstractmethod
    def _add(self, vectors: Vectors) -> None: ...

    @abstractmethod
    def _keep(self, kept: Mask) -> None:
        """Keep these of the stored vectors alone."""

    @abstractmethod
    def _write(self, folder: Path) -> str: ...

    def _allowed(self, among: Mask | None) -> Mask | None:
        """[stored], from those that are left."""
        if among is None or self._alive is None:
            return self._alive if among is None else among
        allowed = self._alive.copy()
        allowed[allowed] = among
        return allowed

    def _compact(self) -> None:
        if self._alive is not None:
            self._keep(self._alive)
            self._alive = self._number_among_alive = None

    def _set_alive(self, alive: Mask) -> None:
        self._alive = alive
        self._number_among_alive = np.cumsum(alive) - 1
