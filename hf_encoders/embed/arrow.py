"""Arrow tables in, Arrow tables with embeddings out: `ArrowEmbedder`."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Column, Dataset, DatasetInfo, Features, Image
from datasets.table import InMemoryTable, table_cast
from transformers.processing_utils import Unpack

from ..arrays import Mask, Vectors
from ..data.cells import PictureItems, picture_items
from ..data.columns import is_picture
from ..modalities import Encoder, Modality, tower_of
from ..models.backend import chosen_backend
from ..models.depth_units import DepthEncodeOptions
from ..models.text_tower import TextTower, Truncation

# Raw inputs: texts, paths, arrays or encoded pictures, one per row.
Items: TypeAlias = Column | PictureItems | list[object]


class ArrowEmbedder:
    """Embeds one column of Arrow tables. No other column is decoded, and the one that is embedded keeps its bytes.

    Texts get the model's prompt for documents, if it has one: see `encode_document`.

    ```python
    embedder = ArrowEmbedder(model, "image", "image", batch_size=64)
    table = embedder(table)             # the same table with a column "embedding" of D float32 numbers per row
    embeddings, kept = embedder.embed(table)
    ```

    Args:
        model: a multimodal encoder, or a depth encoder.
        column: texts, images or depth maps: strings, encoded pictures, or the paths of pictures.
        modality: "text", "image" or "depth".
        features: the column's type where the tables do not say it, such as `Image()`; by default what their schema
            says. Bytes are taken for pictures.
        name: the name of the new column.
        batch_size: how many rows the model sees at a time.
        options: see `DepthEncodeOptions`; the result does not depend on `convert_to`. With `on_error="skip"`, rows that
            cannot be embedded are left out.

    Attributes:
        dimensions: D.

    Raises:
        ValueError: if the model does not embed the modality, or an option is out of range.
    """

    def __init__(
        self,
        model: Encoder,
        column: str,
        modality: Modality,
        *,
        features: Features | None = None,
        name: str = "embedding",
        batch_size: int = 32,
        **options: Unpack[DepthEncodeOptions],
    ):
        self.column, self.modality, self.name = column, modality, name
        self._features = None if features is None else self._of_column(features)
        self._tower = tower_of(model, modality, "document")
        self._is_skipping = options.get("on_error") == "skip"
        # Chosen once: each call embeds a part of the rows.
        backend = chosen_backend(self._tower, options.get("backend", "torch"), options.get("dtype"), None)
        own = {"batch_size": batch_size, "convert_to": "numpy", "show_progress_bar": False, "backend": backend}
        self._options: Mapping[str, Any] = {**options, **own}
        self.dimensions: int = self.embed_items([])[0].shape[1]

    def __call__(self, table: pa.Table) -> pa.Table:
        """Add the column of embeddings to a table.

        Raises:
            ValueError: if a row cannot be embedded, unless such rows are left out.
        """
        embeddings, kept = self.embed(table)
        return table.filter(pa.array(kept)).append_column(self.name, fixed_size_lists(embeddings))

    def embed(self, table: pa.Table, truncation: Truncation | None = None) -> tuple[Vectors, Mask]:
        """Embed the rows of a table.

        Args:
            table: the rows.
            truncation: counts the texts that are cut, for a warning by the caller; by default each call warns.

        Returns:
            [M, D] float32, and which of the N rows have an embedding, [N] booleans.

        Raises:
            ValueError: if a row cannot be embedded, unless such rows are left out.
        """
        return self.embed_items(self.items(table), truncation)

    def embed_items(self, items: Items, truncation: Truncation | None = None) -> tuple[Vectors, Mask]:
        """Embed raw inputs; as `embed`."""
        found = self._encode(items, truncation, self._options)
        if self._is_skipping:
            embeddings, kept = found
            return embeddings, kept
        return found, np.ones(len(found), bool)

    def reason(self, table: pa.Table, row: int) -> ValueError | TypeError | None:
        """Why a row cannot be embedded; None if it can."""
        items = self.items(table.slice(row, 1))
        try:
            self._encode(items, Truncation(), {**self._options, "on_error": "raise"})
        except (ValueError, TypeError) as error:
            return error
        return None

    def items(self, table: pa.Table) -> Items:
        """The raw inputs of a table, decoded when they are embedded."""
        column = table.select([self.column])
        features = self._features or self._of_column(Features.from_arrow_schema(column.schema))
        encoded = table_cast(column, features.arrow_schema)
        rows = Dataset(InMemoryTable(encoded), DatasetInfo(features=features))
        return rows[self.column] if self.modality == "text" else picture_items(rows, self.column)

    def _encode(self, items: Items, truncation: Truncation | None, options: Mapping[str, Any]) -> Any:
        tower = self._tower
        if truncation is not None and isinstance(tower, TextTower):
            tower = tower.counting(truncation)
        return tower.encode(items, **options)

    def _of_column(self, features: Features) -> Features:
        feature = features[self.column]
        is_encoded = self.modality != "text" and is_picture(feature)
        return Features({self.column: Image(decode=False) if is_encoded else feature})


def fixed_size_lists(embeddings: Vectors) -> pa.FixedSizeListArray:
    """Embeddings [N, D] as an Arrow array of N lists, without a copy."""
    return pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), embeddings.shape[1])
