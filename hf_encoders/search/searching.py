"""What every index does with a query before its vectors are searched: `Searchable`."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar, overload

from transformers.processing_utils import Unpack

from ..arrays import Vectors, unit_rows
from ..modalities import Encoder
from ..models.encode_arguments import check_arguments
from .embedding import embed_queries
from .filters import Where
from .queries import (
    Query,
    QueryBatch,
    QueryModality,
    SearchOptions,
    SearchResult,
    SingleQuery,
    guess_modality,
    is_single,
    whole_number,
)

# What an index makes of `where=`.
_Checked = TypeVar("_Checked")


class Searchable(ABC, Generic[_Checked]):
    """Something that has embeddings, and the model that made them, or none."""

    model: Encoder | None
    skipped: list[int]
    _dimensions: int  # before truncation

    @property
    @abstractmethod
    def _width(self) -> int:
        """The dimensions that are searched."""

    @abstractmethod
    def _checked(self, where: Where | None) -> _Checked:
        """Which rows may be found, before anything is embedded; raises for what rows cannot have."""

    @abstractmethod
    def _found(self, embeddings: Vectors, k: int, where: _Checked) -> list[list[SearchResult]]:
        """The nearest rows of each query [Q, D]."""

    @overload
    def search(
        self, query: SingleQuery, k: int = 10, modality: QueryModality | None = None, **options: Unpack[SearchOptions]
    ) -> list[SearchResult]: ...
    @overload
    def search(
        self, query: QueryBatch, k: int = 10, modality: QueryModality | None = None, **options: Unpack[SearchOptions]
    ) -> list[list[SearchResult]]: ...
    @overload
    def search(
        self, query: Query, k: int = 10, modality: QueryModality | None = None, **options: Unpack[SearchOptions]
    ) -> list[SearchResult] | list[list[SearchResult]]: ...
    def search(
        self, query: Query, k: int = 10, modality: QueryModality | None = None, **options: Unpack[SearchOptions]
    ) -> list[SearchResult] | list[list[SearchResult]]:
        """Find the k nearest rows of a query, or of each query in a batch.

        Args:
            query: an input of the model's `encode...`: a text, a path, a PIL image, an array, a list of them; or
                embeddings [D] or [Q, D].
            k: how many rows; all of them if there are fewer. Approximate indexes may find fewer. Rows that are as near
                as each other come in their order.
            modality: "text", "image", "depth" or "embedding". By default strings are texts, colour PIL images are
                images and 16-bit, 32-bit and float ones are depth maps; anything else must be said, unless the model
                has one modality only.
            options: `where`, the rows that may be found: `{"label": "chair"}`, where a list of values stands for any of
                them and several columns must all match. In memory also a function of a row, whose pictures are not
                decoded, or [N] booleans; in a Lance table also SQL, such as "label = 'chair' AND height > 2". Of
                queries that are depth maps, what their raw values mean, see `DepthUnits`; by default what they meant
                in training, whatever the units of the rows.

        Returns:
            A list of `SearchResult`, best first; for a batch, a list of such lists.

        Raises:
            TypeError: if `k` is no whole number, or `where` none of these.
            ValueError: if k is less than 1, the modality is unclear or not the model's, or a query cannot be read; for
                units of queries that are not depth maps; for columns or values of `where` that rows cannot have.
        """
        k = whole_number(k)
        check_arguments("search", options, ("query", "k", "modality", *SearchOptions.__annotations__))
        checked = self._checked(options.pop("where", None))
        modality = modality or guess_modality(query, self.model)
        single = is_single(query, modality)
        queries: Any = [query] if single else query
        if not len(queries):
            return []
        embeddings = self._truncated(embed_queries(self.model, queries, modality, options))
        if embeddings.shape[1] != self._width:
            raise ValueError(f"queries of {embeddings.shape[1]} dimensions, the index has {self._width}")
        results = self._found(embeddings, k, checked)
        return results[0] if single else results

    def check_where(self, where: Where | None) -> None:
        """Refuse a condition that rows cannot meet, as `search` does.

        Raises:
            TypeError: for something that is no condition.
            ValueError: for columns or values that rows cannot have.
        """
        self._checked(where)

    def _truncated(self, embeddings: Vectors) -> Vectors:
        """Embeddings of all dimensions are truncated as the index was; others may have been already."""
        kept = self._width
        return unit_rows(embeddings, kept) if embeddings.shape[1] == self._dimensions > kept else embeddings
