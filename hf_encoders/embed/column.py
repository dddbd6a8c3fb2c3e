"""Embeddings as a column of a data set: `with_embeddings`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import (
    Dataset,
    DatasetDict,
    DatasetInfo,
    Features,
    IterableDataset,
    IterableDatasetDict,
    List,
    Value,
)
from datasets.fingerprint import Hasher
from datasets.table import InMemoryTable
from transformers.processing_utils import Unpack

from ..fingerprint import fingerprint
from ..modalities import column_modality, encoder
from ..models.encoding import EncodeOptions
from ..progress import no_progress_bars

# What does not change the embeddings, and so leaves the cache valid.
_OF_NO_EFFECT = ("convert_to", "device", "show_progress_bar")

# Items of a column → embeddings [M, D] and which of the N items have one, [N] bool.
_Encode = Callable[[Any], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def with_embeddings(
    dataset: Any,
    model: Any,
    column: str,
    modality: str | None = None,
    *,
    name: str = "embedding",
    batch_size: int = 32,
    **options: Unpack[EncodeOptions],
) -> Any:
    """Add a column of embeddings, computed batch by batch.

    ```python
    dataset = with_embeddings(dataset, model, "image")
    dataset.with_format("numpy")["embedding"][:]               # [N, D] float32
    dataset.add_faiss_index("embedding")
    EmbeddingIndex(dataset.with_format("numpy")["embedding"][:], dataset, model)
    ```

    The other columns stay as they are, undecoded, and the rows in order. What `datasets` loaded from files is embedded
    once: the next call, in another process too, finds the embeddings in its cache, unless the weights, the processor,
    the data or an option that matters is another one.

    Args:
        dataset: a data set, a streamed one (embedded as it is read), or a dictionary of splits.
        model: a multimodal encoder, or a depth encoder.
        column: texts, images or depth maps; strings are the paths of images or maps.
        modality: "text", "image" or "depth"; by default as for `EmbeddingIndex.from_dataset`.
        name: of the new column: lists of D float32 numbers, where the data set knows its columns' types.
        batch_size: how many rows the model sees at a time.
        options: see `EncodeOptions`; the column does not depend on `convert_to`. With `on_error="skip"`, rows that
            cannot be embedded are left out.

    Returns:
        A data set of the same kind. A streamed one has no format.

    Raises:
        TypeError: if `dataset` is no data set.
        ValueError: if there is no such column, or one called `name` already, for an option out of range, or a row that
            cannot be embedded.
    """
    if isinstance(dataset, (DatasetDict, IterableDatasetDict)):
        parts = {
            split: with_embeddings(part, model, column, modality, name=name, batch_size=batch_size, **options)
            for split, part in dataset.items()
        }
        return type(dataset)(parts)
    if not isinstance(dataset, (Dataset, IterableDataset)):
        raise TypeError(f"a {type(dataset).__name__}, expected a data set of the datasets library")
    _check_columns(dataset, column, name)
    modality = modality or column_modality(model, dataset, column)
    encode = partial(_encode, encoder(model, modality), {**options, "batch_size": batch_size, "convert_to": "numpy"})
    dimensions = encode([])[0].shape[1]
    if isinstance(dataset, IterableDataset):
        return _stream(dataset, encode, column, name, dimensions, batch_size)
    hidden = options.get("show_progress_bar") is False
    with no_progress_bars() if hidden else nullcontext():
        key = _cache_key(dataset, model, [column, modality, name], options)
        return _embed_rows(dataset, encode, column, name, dimensions, batch_size, key)


def _check_columns(dataset: Any, column: str, name: str) -> None:
    columns = dataset.column_names
    if columns is None:  # a stream that does not say
        columns = list(next(iter(dataset), {}))
    if column not in columns:
        raise ValueError(f"no column {column!r}; the data set has {', '.join(columns)}")
    if name in columns:
        raise ValueError(f"there is a column {name!r} already; give another name=, or remove it first")


def _encode(method: Any, options: dict[str, Any], items: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    found = method(items, **{**options, "show_progress_bar": False})
    return found if options.get("on_error") == "skip" else (found, np.ones(len(found), bool))


def _cache_key(dataset: Dataset, model: Any, names: list[str], options: Mapping[str, Any]) -> str:
    """Another one whenever the column would be another one; milliseconds, where pickling the model takes seconds."""
    effective = sorted((key, str(value)) for key, value in options.items() if key not in _OF_NO_EFFECT)
    made_by = [fingerprint(model), Hasher.hash(model.config.to_dict()), Hasher.hash(model.processor)]
    return Hasher.hash([dataset._fingerprint, *made_by, *names, effective])


def _embed_rows(
    dataset: Dataset, encode: _Encode, column: str, name: str, dimensions: int, batch_size: int, key: str
) -> Dataset:
    feature = List(Value("float32"), length=dimensions)
    if not len(dataset):  # `map` would leave out the column
        return dataset.add_column(name, [], feature=feature)
    shown = dataset.format
    result = dataset.with_format("arrow").map(
        partial(_embed_table, encode, Features({column: dataset.features[column]}), name),
        batched=True,
        batch_size=batch_size,
        with_indices=True,
        features=Features({**dataset.features, name: feature}),
        new_fingerprint=key,
        desc="Embedding",
    )
    return result.with_format(
        shown["type"], [*shown["columns"], name], shown["output_all_columns"], **shown["format_kwargs"]
    )


def _stream(
    dataset: IterableDataset, encode: _Encode, column: str, name: str, dimensions: int, batch_size: int
) -> IterableDataset:
    batches = {"batched": True, "batch_size": batch_size, "with_indices": True}
    if dataset.features is None:  # the rows are what Python made, and stay so
        return dataset.with_format(None).map(partial(_embed_batch, encode, column, name), **batches)
    feature = List(Value("float32"), length=dimensions)
    embed = partial(_embed_table, encode, Features({column: dataset.features[column]}), name)
    features = Features({**dataset.features, name: feature})
    return dataset.with_format("arrow").map(embed, features=features, **batches).with_format(None)


def _embed_table(encode: _Encode, feature: Features, name: str, table: pa.Table, indices: Sequence[int]) -> pa.Table:
    """Arrow to Arrow: no other column is decoded, and the one that is embedded keeps its bytes."""
    (column,) = feature
    rows = Dataset(InMemoryTable(table.select([column])), DatasetInfo(features=feature))
    embeddings, kept = _located(encode, rows[column], indices)
    column_values = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), embeddings.shape[1])
    return table.filter(pa.array(kept)).append_column(name, column_values)


def _embed_batch(
    encode: _Encode, column: str, name: str, batch: dict[str, list[Any]], indices: Sequence[int]
) -> dict[str, Any]:
    embeddings, kept = _located(encode, batch[column], indices)
    others = {key: [item for item, keep in zip(values, kept, strict=True) if keep] for key, values in batch.items()}
    return {**others, name: list(embeddings)}


def _located(encode: _Encode, items: Any, indices: Sequence[int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Embed; a message that names an item by its place in the batch also says where the batch begins."""
    try:
        return encode(items)
    except (ValueError, TypeError) as error:
        raise ValueError(f"in the batch from row {indices[0]} on: {error}") from error
