"""Embeddings of the rows and queries of an index, by its model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from datasets import Dataset, concatenate_datasets

from ..arrays import Mask, Vectors, unit_rows
from ..data.cells import picture_items
from ..modalities import Encoder, Modality, column_modality, encoder
from ..models.depth_units import DepthUnits
from ..models.input_errors import one_line
from ..progress import no_progress_bars
from .queries import IndexOptions, QueryModality

# Options that do not change the embeddings.
_WITHOUT_EFFECT = ("batch_size", "convert_to", "device", "on_error", "show_progress_bar")


@dataclass(frozen=True)
class EmbeddedRows:
    """A column that was embedded.

    Args:
        embeddings: [N, D] float32.
        rows: N rows.
        modality: the modality that was embedded.
        skipped: positions of the rows that were left out, in the data set.
        options: those of `encode` that decide the embeddings.
    """

    embeddings: Vectors
    rows: Dataset
    modality: Modality
    skipped: list[int]
    options: dict[str, str]


def embed_dataset(
    model: Encoder,
    dataset: Dataset,
    column: str,
    modality: Modality | None,
    options: IndexOptions,
    expected: Mapping[str, str] | None = None,
) -> EmbeddedRows:
    """Embed a column, see `EmbeddingIndex.from_dataset`.

    Args:
        model: embeds it.
        dataset: its rows.
        column: what is embedded.
        modality: None for that of the column.
        options: of `encode`, but for `truncate_dim`.
        expected: the options that decide the embeddings must be these.

    Raises:
        TypeError: if `dataset` is not a `datasets.Dataset`.
        ValueError: for a column or modality that is not there, a row that cannot be embedded, or other options.
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"a {type(dataset).__name__}, expected a datasets.Dataset (one split, not streamed)")
    if column not in dataset.column_names:
        raise ValueError(f"no column {column!r}; the data set has {', '.join(dataset.column_names)}")
    deciding = {name: str(value) for name, value in options.items() if name not in _WITHOUT_EFFECT}
    if expected is not None and deciding != expected:
        raise ValueError(f"the index was made with {_listed(expected)}, not with {_listed(deciding)}")
    modality = modality or column_modality(model, dataset, column)
    encode: Callable[..., Vectors | tuple[Vectors, Mask]] = encoder(model, modality, task="document")
    items = dataset[column] if modality == "text" else picture_items(dataset, column)
    embeddings = encode(items, **{**options, "convert_to": "numpy"})
    if not isinstance(embeddings, tuple):
        return EmbeddedRows(embeddings, dataset, modality, [], deciding)
    embeddings, kept = embeddings
    rows = dataset.select(np.flatnonzero(kept))
    return EmbeddedRows(embeddings, rows, modality, np.flatnonzero(~kept).tolist(), deciding)


def embed_queries(model: Encoder | None, queries: Any, modality: QueryModality, units: DepthUnits) -> Vectors:
    """Embed queries, or take them for embeddings.

    Returns:
        [Q, D] float32 of length 1.

    Raises:
        ValueError: for units of something else than depth maps, or a modality that the model does not embed.
    """
    if units and modality != "depth":
        raise ValueError(f"{', '.join(units)}: for depth maps alone, and the query's modality is {modality}")
    if modality == "embedding":
        return unit_rows(queries)
    if model is None:
        raise ValueError('this index has no model: search it with embeddings (modality="embedding")')
    encode = encoder(model, modality, units, task="query")
    return unit_rows(encode(queries, convert_to="numpy", show_progress_bar=False))


def joined_rows(
    before: Dataset | None, added: Dataset | Sequence[Mapping[str, Any]] | None, count: int
) -> Dataset | None:
    """The rows of an index and those that join it.

    Args:
        before: the rows of the index, if it has any.
        added: the others.
        count: how many others there are to be.

    Raises:
        ValueError: for another number of rows, rows where the index has none and none where it has some, or other
            columns.
    """
    if before is None and added is None:
        return None
    if before is None or added is None:
        raise ValueError(
            "the index has rows: give those of the embeddings" if added is None else "the index has no rows"
        )
    if len(added) != count:
        raise ValueError(f"{count} embeddings and {len(added)} rows")
    if not len(added):
        return before
    try:
        rows: Dataset = added if isinstance(added, Dataset) else Dataset.from_list(list(added))
        missing = set(before.column_names) ^ set(rows.column_names)
        if missing:
            raise ValueError(f"columns {', '.join(sorted(missing))} are not in both")
        with no_progress_bars():
            return concatenate_datasets([before, rows.cast(before.features)])
    except Exception as error:  # `datasets` and Arrow raise what they like of values that do not fit
        raise ValueError(f"the rows do not fit those of the index: {one_line(error)}") from error


def _listed(options: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in cast("dict[str, str]", options).items()) or "no options"
