"""Rows of a collection → rows of the result: id, the columns kept, embedding."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import ClassLabel, Features, List, Value

from ..arrays import Mask, Vectors
from ..data.columns import URL
from ..data.layout import Part
from ..data.parts import Collection
from ..data.skipped import reason_of
from ..modalities import Encoder, Modality
from ..models.text_tower import Truncation
from ..models.tower import Tower
from .arrow import ArrowEmbedder, fixed_size_lists
from .folder import EMBEDDING, ID

StoredType = Literal["float32", "float16"]
STORED_TYPES: tuple[StoredType, ...] = ("float32", "float16")
_ROWS_PER_BLOCK = 512
# The number of reasons that each shard keeps; all bad rows are counted.
LISTED = 100


@dataclass(frozen=True)
class EmbeddedRows:
    """What became of some rows.

    Args:
        table: rows of the result, for the rows that can be embedded.
        bad_count: the number of rows that cannot.
        bad: id and reason of the first of these.
        cut: the texts that were cut, the first by its id.
        kept: [N], which rows can be embedded.
    """

    table: pa.Table
    bad_count: int
    bad: list[tuple[str, str]]
    cut: Truncation
    kept: Mask


class RowEmbedder:
    """Embeds tables of a collection's rows.

    Args:
        model: a multimodal or a depth encoder, or another: see `load_encoder`.
        collection: what is embedded.
        modality: "text", "image" or "depth".
        id_column: the column that names the rows; by default the collection's own, such as the path of a file, then a
            column `id`, and where there is none, their numbers.
        keep: the columns to keep; by default all that are neither media nor binary nor lists of floats.
        dtype: what embeddings are stored as, "float32" or "float16".
        options: options of the model's `encode...`.

    Attributes:
        embedder: embeds the column.

    Raises:
        ValueError: for a column that is not there or whose name is taken, another dtype, or options out of range.
    """

    def __init__(
        self,
        model: Encoder,
        collection: Collection,
        modality: Modality,
        *,
        id_column: str | None = None,
        keep: Sequence[str] | None = None,
        dtype: StoredType = "float32",
        options: Mapping[str, Any],
    ):
        if dtype not in STORED_TYPES:
            raise ValueError(f"embeddings are stored as {' or '.join(STORED_TYPES)}, got {dtype!r}")
        features = collection.features
        for name in [*([] if id_column is None else [id_column]), *(keep or ())]:
            if name not in features:
                raise ValueError(f"{collection.name}: no column {name!r}; it has {', '.join(features)}")
        self._collection, self.dtype = collection, dtype
        skipping = {**options, "on_error": "skip"}
        self.embedder = ArrowEmbedder(model, collection.column, modality, features=features, **skipping)
        self.dimensions = self.embedder.dimensions
        self.id_column = id_column or collection.default_id or (ID if ID in features else None)
        self.kept = _cheap_columns(collection, modality, self.id_column) if keep is None else list(keep)
        if taken := {ID, EMBEDDING} & set(self.kept):
            raise ValueError(f"{collection.name}: the column {min(taken)!r} cannot be kept: the result has its own")
        id_feature = features[self.id_column] if self.id_column else None
        self.features = Features(
            {
                ID: id_feature or Value(collection.id_type),
                **{name: features[name] for name in self.kept},
                EMBEDDING: List(Value(dtype), length=self.dimensions),
            }
        )
        # The model sees a block at a time: whole batches.
        batch_size = int(options.get("batch_size", 32))
        self.rows_per_block = batch_size * max(1, _ROWS_PER_BLOCK // batch_size)
        id_columns = [] if self.id_column is None else [self.id_column]
        self.columns = list(dict.fromkeys([*id_columns, *self.kept, collection.column]))

    def __call__(self, table: pa.Table, part: Part, start: int) -> EmbeddedRows:
        """Embed rows of a part.

        Args:
            table: the rows, with the columns `columns`, undecoded.
            part: their part.
            start: the number of rows of the part before them.
        """
        return self.embed(table, self.ids(table, part, start))

    def ids(self, table: pa.Table, part: Part, start: int) -> pa.Array | pa.ChunkedArray:
        """The names of rows of a part; see `__call__`."""
        return table[self.id_column] if self.id_column else self._collection.ids(part, start, len(table))

    def embed(self, table: pa.Table, ids: pa.Array | pa.ChunkedArray) -> EmbeddedRows:
        """Embed rows that have these names, of any parts."""
        cut = Truncation()
        embeddings, kept = self.embedder.embed(table, cut)
        if cut.count:
            cut.name = str(ids[cut.first].as_py())
        bad = np.flatnonzero(~kept).tolist()
        reasons = {row: self.reason(table, row) for row in bad[:LISTED]}
        return self.joined(ids, table.select(self.kept), embeddings, kept, reasons, cut)

    def joined(
        self,
        ids: pa.Array,
        others: pa.Table,
        embeddings: Vectors,
        kept: Mask,
        reasons: Mapping[int, str],
        cut: Truncation,
    ) -> EmbeddedRows:
        """Rows of the result.

        Args:
            ids: their names, [N].
            others: N rows, of the columns that are kept beside their embeddings.
            embeddings: [M, D].
            kept: which of the rows have one, [N] booleans.
            reasons: why the first of the others have none, by their numbers.
            cut: the texts that were cut.
        """
        bad = np.flatnonzero(~kept).tolist()
        listed = [(str(ids[row].as_py()), reasons[row]) for row in bad[:LISTED]]
        mask = pa.array(kept)
        vectors = fixed_size_lists(embeddings.astype(self.dtype, copy=False))
        arrays = [ids.filter(mask), *(others[name].filter(mask) for name in self.kept), vectors]
        schema = self.features.arrow_schema
        arrays = [
            array if array.type == field.type else array.cast(field.type)
            for array, field in zip(arrays, schema, strict=True)
        ]
        return EmbeddedRows(pa.Table.from_arrays(arrays, schema=schema), len(bad), listed, cut, kept)

    def with_tower(self, tower: Tower | None) -> Self:
        """See `ArrowEmbedder.with_tower`."""
        other = copy.copy(self)
        other.embedder = self.embedder.with_tower(tower)
        return other

    def reason(self, table: pa.Table, row: int) -> str:
        """Why a row cannot be embedded, on one line."""
        error = self.embedder.reason(table, row)
        if error is None:
            return "cannot be read"  # at the second attempt it could
        return reason_of(error)


def _cheap_columns(collection: Collection, modality: Modality, id_column: str | None) -> list[str]:
    # WebDataset's __url__ names a file of the machine that embeds.
    left_out = {id_column, ID, EMBEDDING, URL, None if modality == "text" else collection.column}
    return [name for name, feature in collection.features.items() if name not in left_out and _is_cheap(feature)]


def _is_cheap(feature: object) -> bool:
    """Neither media nor binary, nor lists of floats, which are other embeddings more often than not."""
    if isinstance(feature, Mapping):
        return all(_is_cheap(part) for part in feature.values())
    if isinstance(feature, List):
        is_float = isinstance(feature.feature, Value) and feature.feature.dtype.startswith(("float", "double"))
        return not is_float and _is_cheap(feature.feature)
    if isinstance(feature, Value):
        return "binary" not in feature.dtype
    return isinstance(feature, ClassLabel)
