"""What an index holds: vectors, their rows and what made them. It grows and shrinks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.processing_utils import Unpack

from ..arrays import AnyArray, Mask, Numbers, unit_rows
from ..maker import Maker, maker
from ..modalities import Encoder, Modality
from .embedding import embed_dataset, joined_rows
from .filters import Where, rows_meant
from .found_rows import positions_of
from .queries import IndexOptions
from .saved_index import Origin, check_maker
from .searching import Searchable
from .vectors import SearchedVectors


class IndexedRows(Searchable[Mask | None]):
    """Embeddings of a collection, its rows and the model; `EmbeddingIndex` makes, searches and saves them."""

    rows: Dataset | None
    modality: Modality | None
    column: str | None
    skipped: list[int]
    removed: list[int]

    def _set(
        self,
        vectors: SearchedVectors,
        rows: Dataset | None,
        model: Encoder | None,
        made_by: Maker | None,
        dimensions: int,
        *,
        modality: Modality | None = None,
        column: str | None = None,
        skipped: Sequence[int] = (),
        removed: Sequence[int] = (),
    ) -> None:
        self._vectors, self.rows, self.model, self._made_by = vectors, rows, model, made_by
        self._dimensions = dimensions  # before truncation
        self.modality, self.column, self.skipped, self.removed = modality, column, list(skipped), list(removed)
        self._origin: Origin | None = None  # of an index of a folder of embeddings
        self._options: dict[str, str] | None = {}  # of `encode`, by which the rows were embedded, where they are known

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def _width(self) -> int:
        return self._vectors.dimensions

    @property
    def _positions(self) -> Sequence[int] | AnyArray:
        return positions_of(len(self), [*self.skipped, *self.removed])

    def add(
        self,
        embeddings: Numbers,
        rows: Dataset | Sequence[Mapping[str, Any]] | None = None,
        model: Encoder | None = None,
    ) -> None:
        """Add rows that are embedded already, behind the others. An error leaves the index as it was.

        Args:
            embeddings: [M, D] numbers (array or tensor), of all dimensions or truncated as the index was.
            rows: M rows with the columns of the others, if the index has rows.
            model: the model that made the embeddings, if it is to be checked that it made the index.

        Raises:
            ValueError: for embeddings of another width or without a direction, rows that are missing or have other
                columns, or another model.
        """
        if model is not None:
            check_maker("this index", self._made_by, maker(model))
        vectors = self._truncated(unit_rows(embeddings))
        if vectors.shape[1] != self._vectors.dimensions:
            raise ValueError(f"embeddings of {vectors.shape[1]} dimensions, the index has {self._vectors.dimensions}")
        joined = joined_rows(self.rows, rows, len(vectors))
        self._vectors.add(vectors)
        self.rows = joined

    def add_dataset(self, dataset: Dataset, **options: Unpack[IndexOptions]) -> None:
        """Embed the rows of another data set with the index's model, and add them. The others are not embedded again.

        Args:
            dataset: with the columns of the rows of the index.
            options: those that the index was made with, see `from_dataset`; `batch_size`, `device` and `on_error` may
                be others. The positions of rows that are left out go on from those of the index.

        Raises:
            TypeError: if `dataset` is not a `datasets.Dataset`.
            ValueError: if the index has no model, or was not made by `from_dataset` with this model and these options;
                for other columns, or a row that cannot be embedded.
        """
        if self.model is None or self.column is None or self._options is None:
            raise ValueError("only an index of from_dataset, with its model, embeds rows: embed them, and use add")
        check_maker("this index", self._made_by, maker(self.model))
        truncate_dim = options.pop("truncate_dim", None)
        if truncate_dim not in (None, self._vectors.dimensions):
            raise ValueError(f"truncate_dim={truncate_dim}, and the index has {self._vectors.dimensions} dimensions")
        made = embed_dataset(self.model, dataset, self.column, self.modality, options, expected=self._options)
        first = len(self) + len(self.skipped) + len(self.removed)
        self.add(made.embeddings, made.rows)
        self.skipped += [first + position for position in made.skipped]

    def remove(self, which: Sequence[int] | Where) -> int:
        """Remove rows. They are passed over, and taken out of the vectors when the index is saved.

        Args:
            which: positions as `SearchResult.index` has them, [N] booleans, or what `search` takes as `where`.

        Returns:
            How many were removed.

        Raises:
            TypeError: for something else.
            ValueError: for positions at which no row is, or none any more; then nothing is removed.
        """
        positions = np.asarray(self._positions)
        mask = rows_meant(which, self.rows, positions)
        count = int(np.count_nonzero(mask))
        if count:
            self._vectors.remove(mask)
            self.rows = None if self.rows is None else self.rows.select(np.flatnonzero(~mask))
            self.removed = sorted([*self.removed, *positions[mask].tolist()])
        return count
