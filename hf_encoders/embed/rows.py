"""Rows of a collection → rows of the result: id, the columns kept, embedding."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Image, List, Value
from datasets.table import InMemoryTable, table_cast

from ..data.collection import Collection, Part
from ..data.columns import is_picture
from ..modalities import encoder
from .folder import EMBEDDING

ID = "id"
DTYPES = ("float32", "float16")
_ROWS_A_BLOCK = 512
# So many reasons are kept of each shard; all bad rows are counted.
LISTED = 100
# What the encoders call an input in their messages: a number that means nothing beside the row's id.
_NUMBERED = re.compile(r"^(?:(?:text|image|map) \d+: |item \d+ of the column )")


@dataclass(frozen=True)
class EmbeddedRows:
    """What became of some rows.

    Args:
        table: rows of the result, of those that can be embedded.
        bad_count: how many cannot.
        bad: id and reason of the first of these.
    """

    table: pa.Table
    bad_count: int
    bad: list[tuple[str, str]]


class RowEmbedder:
    """Embeds tables of a collection's rows.

    Args:
        model: a multimodal encoder, or a depth encoder.
        collection: what is embedded.
        modality: "text", "image" or "depth".
        id_column: names the rows; by default the collection's own, such as the path of a file, then a column `id`, and
            where there is none, their numbers.
        keep: the columns that go along; by default all that are neither media nor binary nor lists of floats.
        dtype: what embeddings are stored as, "float32" or "float16".
        options: what the model's `encode...` takes.

    Raises:
        ValueError: for a column that is not there or whose name is taken, another dtype, or options out of range.
    """

    def __init__(
        self,
        model: Any,
        collection: Collection,
        modality: str,
        *,
        id_column: str | None = None,
        keep: Sequence[str] | None = None,
        dtype: str = "float32",
        options: Mapping[str, Any],
    ):
        if dtype not in DTYPES:
            raise ValueError(f"embeddings are stored as {' or '.join(DTYPES)}, got {dtype!r}")
        features = collection.features
        for name in [*([] if id_column is None else [id_column]), *(keep or ())]:
            if name not in features:
                raise ValueError(f"{collection.name}: no column {name!r}; it has {', '.join(features)}")
        self._collection, self.dtype = collection, dtype
        self._encode, self._options = encoder(model, modality), dict(options)
        self.dimensions: int = self._embed([])[0].shape[1]
        self.id_column = id_column or collection.default_id or (ID if ID in features else None)
        self.kept = _cheap_columns(collection, modality, self.id_column) if keep is None else list(keep)
        if taken := {ID, EMBEDDING} & set(self.kept):
            raise ValueError(f"{collection.name}: the column {min(taken)!r} cannot be kept: the result has its own")
        column = collection.column
        feature = features[column]
        self._decoded = Features({column: Image() if modality != "text" and is_picture(feature) else feature})
        id_feature = features[self.id_column] if self.id_column else None
        self.features = Features(
            {
                ID: id_feature or Value(collection.id_type),
                **{name: features[name] for name in self.kept},
                EMBEDDING: List(Value(dtype), length=self.dimensions),
            }
        )
        own_id = [] if self.id_column is None else [self.id_column]
        # The model sees a block at a time: whole batches.
        batch_size = int(options.get("batch_size", 32))
        self.rows_a_block = batch_size * max(1, _ROWS_A_BLOCK // batch_size)
        self.columns = list(dict.fromkeys([*own_id, *self.kept, column]))

    def __call__(self, table: pa.Table, part: Part, start: int) -> EmbeddedRows:
        """Embed rows of a part.

        Args:
            table: their `columns`, undecoded.
            part: whose they are.
            start: how many rows of the part come before them.
        """
        (column,) = self._decoded
        encoded = table_cast(table.select([column]), self._decoded.arrow_schema)
        rows = Dataset(InMemoryTable(encoded), DatasetInfo(features=self._decoded))
        embeddings, kept = self._embed(rows[column])
        ids = table[self.id_column] if self.id_column else self._collection.ids(part, start, len(table))
        bad = np.flatnonzero(~kept)
        reasons = [(str(ids[int(row)].as_py()), self._reason(rows.select([int(row)])[column])) for row in bad[:LISTED]]
        flat = pa.array(embeddings.astype(self.dtype, copy=False).reshape(-1))
        values = pa.FixedSizeListArray.from_arrays(flat, self.dimensions)
        mask = pa.array(kept)
        arrays = [ids.filter(mask), *(table[name].filter(mask) for name in self.kept), values]
        schema = self.features.arrow_schema
        arrays = [_cast(array, field.type) for array, field in zip(arrays, schema, strict=True)]
        return EmbeddedRows(pa.Table.from_arrays(arrays, schema=schema), len(bad), reasons)

    def _embed(self, items: Any) -> Any:
        return self._encode(items, **self._options, convert_to="numpy", show_progress_bar=False, on_error="skip")

    def _reason(self, item: Any) -> str:
        try:
            self._encode(item, **self._options, convert_to="numpy", show_progress_bar=False)
        except (ValueError, TypeError) as error:
            return _NUMBERED.sub("", " ".join(str(error).split()))
        return "cannot be read"  # at the second try it could


def _cast(array: Any, kind: pa.DataType) -> Any:
    return array if array.type == kind else array.cast(kind)


def _cheap_columns(collection: Collection, modality: str, id_column: str | None) -> list[str]:
    # Of WebDataset's own columns, __url__ names a file of the machine that embeds.
    left_out = {id_column, ID, EMBEDDING, "__url__", None if modality == "text" else collection.column}
    return [name for name, feature in collection.features.items() if name not in left_out and _is_cheap(feature)]


def _is_cheap(feature: Any) -> bool:
    """Neither media nor binary, nor lists of floats, which are other embeddings more often than not."""
    if isinstance(feature, dict):
        return all(_is_cheap(part) for part in feature.values())
    if isinstance(feature, List):
        is_float = isinstance(feature.feature, Value) and feature.feature.dtype.startswith(("float", "double"))
        return not is_float and _is_cheap(feature.feature)
    if isinstance(feature, Value):
        return "binary" not in feature.dtype
    return isinstance(feature, ClassLabel)
