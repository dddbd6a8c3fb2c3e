"""Embeddings as a column of a data set: `with_embeddings`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TypeVar

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute  # type: ignore[import-untyped]  # as pa.compute
from datasets import Dataset, DatasetDict, Features, Image, IterableDataset, IterableDatasetDict, List, Value
from datasets.fingerprint import Hasher
from transformers.processing_utils import Unpack

from ..arrays import Mask, Vectors
from ..data.file_states import digest, file_state, named_files
from ..maker import maker
from ..modalities import Encoder, Modality, column_modality
from ..models.depth_units import DepthEncodeOptions
from ..models.text_tower import Truncation
from ..progress import no_progress_bars
from .arrow import ArrowEmbedder, Items, fixed_size_lists

# Options that do not change the embeddings, and so leave the cache valid.
_WITHOUT_EFFECT = ("convert_to", "device", "show_progress_bar")

_ROWS_PER_READ = 10_000
_AnyDataset = TypeVar("_AnyDataset", Dataset, IterableDataset, DatasetDict, IterableDatasetDict)
_Split = TypeVar("_Split", Dataset, IterableDataset)
# Rows as plain Python: column → values.
_Batch = dict[str, list[object]]


def with_embeddings(
    dataset: _AnyDataset,
    model: Encoder,
    column: str,
    modality: Modality | None = None,
    *,
    name: str = "embedding",
    batch_size: int = 32,
    **options: Unpack[DepthEncodeOptions],
) -> _AnyDataset:
    """Add a column of embeddings, computed batch by batch.

    ```python
    dataset = with_embeddings(dataset, model, "image")
    dataset.with_format("numpy")["embedding"][:]               # [N, D] float32
    dataset.add_faiss_index("embedding")
    EmbeddingIndex(dataset.with_format("numpy")["embedding"][:], dataset, model)
    ```

    The other columns stay as they are, undecoded, and the rows in order. What `datasets` loaded from files is embedded
    once: the next call, in another process too, finds the embeddings in its cache, unless the weights, the processor,
    the data or an option that matters has changed. Texts get the model's prompt for documents, if it has one. One
    warning counts the texts that are cut at the model's limit; of a stream, whose end is not known, it names the first.

    Args:
        dataset: a data set, a streamed one (embedded as it is read), or a dictionary of splits.
        model: a multimodal or a depth encoder, or another: see `load_encoder`.
        column: texts, images or depth maps; strings are the paths of images or maps.
        modality: "text", "image" or "depth"; by default as for `EmbeddingIndex.from_dataset`.
        name: the new column: lists of D float32 numbers, where the data set knows its columns' types.
        batch_size: how many rows the model sees at a time.
        options: see `EncodeOptions`, and for depth maps `DepthUnits`; the column does not depend on `convert_to`. With
            `on_error="skip"`, rows that cannot be embedded are left out.

    Returns:
        A data set of the same kind. A streamed one has no format.

    Raises:
        TypeError: if `dataset` is not a data set.
        ValueError: if there is no such column, or one called `name` already, for an option out of range, or a row that
            cannot be embedded.
    """
    cut = Truncation()
    if isinstance(dataset, (DatasetDict, IterableDatasetDict)):
        parts = {}
        for split, part in dataset.items():
            of_split = Truncation()
            parts[split] = _with_embeddings(part, model, column, modality, name, batch_size, options, of_split)
            of_split.name = f"{of_split.first} of {split}"
            cut.add(of_split)
        result = type(dataset)(parts)
    else:
        result = _with_embeddings(dataset, model, column, modality, name, batch_size, options, cut)
    cut.warn()
    return result


def _with_embeddings(
    dataset: _Split,
    model: Encoder,
    column: str,
    modality: Modality | None,
    name: str,
    batch_size: int,
    options: DepthEncodeOptions,
    cut: Truncation,
) -> _Split:
    """As `with_embeddings`, for one split; texts that are cut are counted, but for a stream's."""
    if not isinstance(dataset, (Dataset, IterableDataset)):
        raise TypeError(f"a {type(dataset).__name__}, expected a data set of the datasets library")
    _check_columns(dataset, column, name)
    modality = modality or column_modality(model, dataset, column)
    embedder = ArrowEmbedder(
        model, column, modality, features=dataset.features, name=name, batch_size=batch_size, **options
    )
    if isinstance(dataset, IterableDataset):
        return _embed_stream(dataset, embedder, batch_size)
    is_hidden = options.get("show_progress_bar") is False
    with no_progress_bars() if is_hidden else nullcontext():
        return _embed_dataset(dataset, embedder, batch_size, _cache_key(dataset, model, embedder, options), cut)


def _check_columns(dataset: Dataset | IterableDataset, column: str, name: str) -> None:
    columns = dataset.column_names
    if columns is None:  # a stream that does not say
        columns = list(next(iter(dataset), {}))
    if column not in columns:
        raise ValueError(f"no column {column!r}; the data set has {', '.join(columns)}")
    if name in columns:
        raise ValueError(f"there is a column {name!r} already; give another name=, or remove it first")


def _cache_key(dataset: Dataset, model: Encoder, embedder: ArrowEmbedder, options: Mapping[str, object]) -> str:
    """A key that changes whenever the column would; in milliseconds, where pickling the model takes seconds."""
    effective = sorted((key, str(value)) for key, value in options.items() if key not in _WITHOUT_EFFECT)
    made_by = sorted(maker(model, [embedder.modality]).items())
    names = [embedder.column, embedder.modality, embedder.name]
    return Hasher.hash([dataset._fingerprint, made_by, names, effective, _named_states(dataset, embedder)])


def _named_states(dataset: Dataset, embedder: ArrowEmbedder) -> str:
    """The states of the files that the column names: their content is no part of the data set."""
    if embedder.modality == "text":
        return ""
    cells: Dataset = dataset.select_columns([embedder.column]).with_format("arrow")
    if isinstance(dataset.features[embedder.column], Image):
        cells = cells.cast_column(embedder.column, Image(decode=False))
    paths = (path for table in cells.iter(_ROWS_PER_READ) for path in _paths(table[embedder.column]))
    return digest(f"{path} {file_state(path)}" for path in paths)


def _paths(cells: pa.ChunkedArray) -> Iterator[str]:
    """The paths in a column; the bytes of pictures are not read."""
    if pa.types.is_struct(cells.type) and {"bytes", "path"} <= {field.name for field in cells.type}:
        without = pa.compute.is_null(pa.compute.struct_field(cells, "bytes"))
        cells = pa.compute.struct_field(cells, "path").filter(without)
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        yield from named_files(cells.to_pylist())


def _embed_dataset(dataset: Dataset, embedder: ArrowEmbedder, batch_size: int, key: str, cut: Truncation) -> Dataset:
    feature = List(Value("float32"), length=embedder.dimensions)
    if not len(dataset):  # `map` would leave out the column
        return dataset.add_column(embedder.name, [], feature=feature)
    shown = dataset.format
    result = dataset.with_format("arrow").map(
        partial(_embed_table, embedder, cut),
        batched=True,
        batch_size=batch_size,
        with_indices=True,
        features=Features({**dataset.features, embedder.name: feature}),
        new_fingerprint=key,
        desc="Embedding",
    )
    columns = [*shown["columns"], embedder.name]
    return result.with_format(shown["type"], columns, shown["output_all_columns"], **shown["format_kwargs"])


def _embed_stream(dataset: IterableDataset, embedder: ArrowEmbedder, batch_size: int) -> IterableDataset:
    if dataset.features is None:  # the rows are what Python made, and stay so
        embed, features = partial(_embed_batch, embedder, _StreamsTruncation()), None
        dataset = dataset.with_format(None)
    else:
        embed = partial(_embed_table, embedder, _StreamsTruncation())
        feature = List(Value("float32"), length=embedder.dimensions)
        features = Features({**dataset.features, embedder.name: feature})
        dataset = dataset.with_format("arrow")
    result = dataset.map(embed, batched=True, batch_size=batch_size, with_indices=True, features=features)
    return result.with_format(None)


class _StreamsTruncation(Truncation):
    """Warns of the first text of a stream that is cut, and of no other."""

    def add(self, other: Truncation, start: int = 0) -> None:
        """See `Truncation`."""
        is_first = not self.count
        super().add(other, start)
        if is_first:
            self.warn(", and so for the rest of the stream")


def _embed_table(embedder: ArrowEmbedder, cut: Truncation, table: pa.Table, indices: Sequence[int]) -> pa.Table:
    embeddings, kept = _located(embedder, embedder.items(table), indices, cut)
    return table.filter(pa.array(kept)).append_column(embedder.name, fixed_size_lists(embeddings))


def _embed_batch(embedder: ArrowEmbedder, cut: Truncation, batch: _Batch, indices: Sequence[int]) -> _Batch:
    embeddings, kept = _located(embedder, batch[embedder.column], indices, cut)
    others = {key: [item for item, keep in zip(values, kept, strict=True) if keep] for key, values in batch.items()}
    return {**others, embedder.name: list(embeddings)}


def _located(embedder: ArrowEmbedder, items: Items, indices: Sequence[int], cut: Truncation) -> tuple[Vectors, Mask]:
    """Embed. A message that names an item by its place in the batch also says where the batch begins."""
    of_batch = Truncation()
    try:
        found = embedder.embed_items(items, of_batch)
        cut.add(of_batch, indices[0] if indices else 0)
        return found
    except (ValueError, TypeError) as error:
        raise ValueError(f"in the batch from row {indices[0]} on: {error}") from error
