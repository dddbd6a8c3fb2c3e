"""Searches a collection by text, image or depth map: `EmbeddingIndex`."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from datasets import Dataset, load_from_disk
from transformers.processing_utils import Unpack

from ..arrays import Mask, Numbers, Vectors, unit_rows
from ..data.cells import picture_items
from ..embed.folder import embedded_rows, map_vectors, read_manifest
from ..maker import Maker, maker
from ..modalities import Encoder, Modality, column_modality, encoder, tower_of
from ..models.depth_units import DepthUnits
from ..models.encode_arguments import check_arguments
from ..models.input_errors import one_line
from ..outputs import INDEX_MANIFEST, new_folder
from ..progress import no_progress_bars
from .found_rows import hits, positions_of
from .quantized_vectors import QuantizedVectors, searchable
from .queries import (
    IndexOptions,
    Query,
    QueryBatch,
    QueryModality,
    SearchResult,
    SingleQuery,
    guess_modality,
    is_single,
    whole_number,
)
from .saved_index import (
    ROWS,
    WITHOUT_EFFECT,
    About,
    Manifest,
    check_maker,
    read_index_manifest,
    read_vectors,
    write_index,
)
from .vectors import FloatVectors, IndexType, Precision


class EmbeddingIndex:
    """Embeddings of a collection, its rows, and the model that both were made with.

    ```python
    index = EmbeddingIndex.from_dataset(model, dataset, "image")
    index.search("a red lamp", k=5)                   # one query: a list of `SearchResult`, best first
    index.search(["a red lamp", "a blue chair"])      # several: a list of such lists
    index.search("maps/17.png", modality="depth")     # a path looks like a text, so its modality is said
    ```

    Search is exact up to a million rows, through FAISS or, where that is not installed, PyTorch. `precision` and
    `truncate_dim` make the vectors smaller, for some recall; `nbytes` is what they take in memory:

    | precision | bytes of 256 dimensions | searched by |
    |---|---|---|
    | "float32" | 1024 | the query with all vectors |
    | "float16" | 512 | the same |
    | "int8" | 256 | the same; each dimension has 256 values between its lowest and its highest in the index |
    | "binary" | 32, and 256 in the saved file | signs; the best candidates are rescored by the query and the 8 bits |

    Args:
        embeddings: [N, D] numbers (array or tensor); each row is scaled to length 1.
        rows: N rows to return: a data set, or a list of dictionaries.
        model: embeds the queries. Without it, queries are embeddings.
        index_type: "exact", "hnsw" or "ivf" (approximate, need faiss); None chooses by size, see `FloatVectors`.
            Precisions other than "float32" are exact.
        precision: see the table. Binary vectors loaded by `load` leave their 8 bits in the file; new ones hold them.
        truncate_dim: keep only the first dimensions, this many, of queries too: for models trained to allow it
            (Matryoshka).
        rescore_multiplier: "binary" rescores this many candidates per row to find; for a few rows take more.

    Attributes:
        rows: the rows, or None.
        model: the model, or None.
        modality: the modality that was embedded, where the index knows.
        column: the column that was embedded, where the index knows.
        skipped: positions of the rows that were left out, in the data set that was indexed.

    Raises:
        ValueError: for embeddings of another shape or without a direction (zeros, NaN), another number of rows, or
            invalid options.
    """

    rows: Dataset | None
    model: Encoder | None
    modality: Modality | None
    column: str | None
    skipped: list[int]

    def __init__(
        self,
        embeddings: Numbers,
        rows: Dataset | Sequence[Mapping[str, Any]] | None = None,
        model: Encoder | None = None,
        index_type: IndexType | None = None,
        *,
        precision: Precision = "float32",
        truncate_dim: int | None = None,
        rescore_multiplier: int = 4,
    ):
        scaled = unit_rows(embeddings, truncate_dim)
        vectors = searchable(scaled, index_type, precision, rescore_multiplier)
        if rows is not None and len(rows) != len(vectors):
            raise ValueError(f"{len(vectors)} embeddings and {len(rows)} rows")
        rows = rows if rows is None or isinstance(rows, Dataset) else Dataset.from_list(list(rows))
        made_by = None if model is None else maker(model)
        self._set(vectors, rows, model, made_by, np.shape(embeddings)[1])

    def _set(
        self,
        vectors: FloatVectors | QuantizedVectors,
        rows: Dataset | None,
        model: Encoder | None,
        made_by: Maker | None,
        dimensions: int,
        *,
        modality: Modality | None = None,
        column: str | None = None,
        skipped: Sequence[int] = (),
    ) -> None:
        self._vectors, self.rows, self.model, self._made_by = vectors, rows, model, made_by
        self._dimensions = dimensions  # before truncation
        self.modality, self.column, self.skipped = modality, column, list(skipped)
        self._options: dict[str, str] = {}  # of `encode`, by which the rows were embedded

    @classmethod
    def from_dataset(
        cls,
        model: Encoder,
        dataset: Dataset,
        column: str,
        modality: Modality | None = None,
        *,
        index_type: IndexType | None = None,
        precision: Precision = "float32",
        rescore_multiplier: int = 4,
        **options: Unpack[IndexOptions],
    ) -> "EmbeddingIndex":
        """Embed a column and index it. Memory holds the embeddings and one batch of inputs.

        Args:
            model: a multimodal encoder, a depth encoder for `modality="depth"`, or another: see `load_encoder`.
            dataset: its rows are what `search` returns.
            column: texts, images or depth maps; strings are the paths of images or maps.
            modality: "text", "image" or "depth". By default, pictures of 16 and 32 bits are depth maps, and anything
                else is an image, or a depth map or text where the model embeds nothing else.
            index_type: see the class, as for `precision`, `rescore_multiplier` and `truncate_dim`.
            options: options of the model's `encode...`, such as `batch_size`, `device`, `dtype`, or
                `on_error="skip"`, which leaves out rows that cannot be read; `skipped` then lists their positions.
                The index does not depend on `convert_to`.

        Raises:
            TypeError: if `dataset` is not a `datasets.Dataset` (a streamed one has no rows to come back to).
            ValueError: for a column or modality that is not there, or a row that cannot be embedded.
        """
        if not isinstance(dataset, Dataset):
            raise TypeError(f"a {type(dataset).__name__}, expected a datasets.Dataset (one split, not streamed)")
        if column not in dataset.column_names:
            raise ValueError(f"no column {column!r}; the data set has {', '.join(dataset.column_names)}")
        modality = modality or column_modality(model, dataset, column)
        truncate_dim = options.pop("truncate_dim", None)  # the index truncates, and queries with it
        options["convert_to"] = "numpy"
        encode: Callable[..., Vectors | tuple[Vectors, Mask]] = encoder(model, modality, task="document")
        items = dataset[column] if modality == "text" else picture_items(dataset, column)
        embeddings = encode(items, **options)
        rows, skipped = dataset, []
        if isinstance(embeddings, tuple):
            embeddings, kept = embeddings
            rows, skipped = dataset.select(np.flatnonzero(kept)), np.flatnonzero(~kept).tolist()
        index = cls(
            embeddings,
            rows,
            model,
            index_type,
            precision=precision,
            truncate_dim=truncate_dim,
            rescore_multiplier=rescore_multiplier,
        )
        index.modality, index.column, index.skipped = modality, column, skipped
        index._options = {name: str(value) for name, value in options.items() if name not in WITHOUT_EFFECT}
        return index

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        model: Encoder | None = None,
        index_type: IndexType = "exact",
        *,
        precision: Precision = "float32",
        rescore_multiplier: int = 4,
    ) -> "EmbeddingIndex":
        """Index what `hf-encoders embed` wrote, of any size: vectors and rows stay on disk, mapped into memory.

        The first call writes both in a form that can be mapped: the vectors beside the shards, which takes 4 D bytes
        per row, and the rows into the cache of `datasets`. An exact search reads all vectors, from memory as far as
        they fit there.

        Args:
            folder: the folder.
            model: the model that made it. Without it, queries are embeddings.
            index_type: "exact" searches on disk; "hnsw" and "ivf" (need faiss) are faster, and hold all in memory.
            precision: "float32" (see `index_type`), or what memory holds: "binary" the signs, whose best candidates
                are rescored from disk; "float16" and "int8" all vectors.
            rescore_multiplier: see the class.

        Raises:
            ValueError: if another model or revision made it, the folder is damaged or not finished, or an option is
                invalid.
            OSError: if the vectors cannot be written there.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if model is not None:
            check_maker(folder, manifest["model"], maker(model))
        embeddings = map_vectors(folder, manifest)
        vectors = searchable(embeddings, index_type, precision, rescore_multiplier, in_place=True)
        truncated = model is not None and manifest["options"].get("truncate_dim") is not None
        dimensions = tower_of(model, manifest["modality"]).dimensions if truncated else embeddings.shape[1]
        index = cls.__new__(cls)
        index._set(
            vectors,
            embedded_rows(folder, manifest),
            model,
            manifest["model"],
            dimensions,
            modality=manifest["modality"],
            column=manifest["column"],
        )
        return index

    def __len__(self) -> int:
        return len(self._vectors)

    def __repr__(self) -> str:
        rows, dimensions = self._vectors.shape
        made_by = self._made_by and (self._made_by.get("name_or_path") or "a model from no repo")
        return (
            f"EmbeddingIndex(rows={rows}, dimensions={dimensions}, modality={self.modality!r},"
            f" precision={self.precision!r}, index_type={self.index_type!r}, model={made_by!r})"
        )

    @property
    def index_type(self) -> IndexType:
        """How it searches: "exact", "hnsw" or "ivf"."""
        return self._vectors.index_type

    @property
    def precision(self) -> Precision:
        """The numbers that are searched: "float32", "float16", "int8" or "binary"."""
        return self._vectors.precision

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors in memory, without the rows and the links of an approximate index."""
        return self._vectors.nbytes

    @overload
    def search(
        self, query: SingleQuery, k: int = 10, modality: QueryModality | None = None, **units: Unpack[DepthUnits]
    ) -> list[SearchResult]: ...
    @overload
    def search(
        self, query: QueryBatch, k: int = 10, modality: QueryModality | None = None, **units: Unpack[DepthUnits]
    ) -> list[list[SearchResult]]: ...
    @overload
    def search(
        self, query: Query, k: int = 10, modality: QueryModality | None = None, **units: Unpack[DepthUnits]
    ) -> list[SearchResult] | list[list[SearchResult]]: ...
    def search(
        self, query: Query, k: int = 10, modality: QueryModality | None = None, **units: Unpack[DepthUnits]
    ) -> list[SearchResult] | list[list[SearchResult]]:
        """Find the k nearest rows of a query, or of each query in a batch.

        Args:
            query: an input of the model's `encode...`: a text, a path, a PIL image, an array, a list of them; or
                embeddings [D] or [Q, D].
            k: how many rows; all of them if there are fewer. Approximate indexes may find fewer.
            modality: "text", "image", "depth" or "embedding". By default strings are texts, colour PIL images are
                images and 16-bit, 32-bit and float ones are depth maps; anything else must be said, unless the model
                has one modality only.
            units: what the raw values of depth maps mean, see `DepthUnits`; by default what they meant in training,
                whatever the units of the rows.

        Returns:
            A list of `SearchResult`, best first; for a batch, a list of such lists.

        Raises:
            TypeError: if `k` is no whole number.
            ValueError: if it is less than 1, the modality is unclear or not the model's, or a query cannot be read;
                for units of queries that are not depth maps.
        """
        k = whole_number(k)
        modality = modality or guess_modality(query, self.model)
        if is_single(query, modality):
            return self._search([query], modality, k, units)[0]
        return self._search(query, modality, k, units)

    def _search(self, queries: Any, modality: QueryModality, k: int, units: DepthUnits) -> list[list[SearchResult]]:
        if not len(queries):
            return []
        embeddings = self._embed(queries, modality, units)
        if embeddings.shape[1] != self._vectors.shape[1]:
            raise ValueError(f"queries of {embeddings.shape[1]} dimensions, the index has {self._vectors.shape[1]}")
        if not len(self):
            return [[] for _ in queries]
        positions = positions_of(len(self), self.skipped)
        found = zip(*self._vectors.search(embeddings, k), strict=True)
        return [hits(scores, numbers, positions, self.rows) for scores, numbers in found]

    def _embed(self, queries: Any, modality: QueryModality, units: DepthUnits) -> Vectors:
        check_arguments("search", units, ("query", "k", "modality", *DepthUnits.__annotations__))
        if units and modality != "depth":
            raise ValueError(f"{', '.join(units)}: for depth maps alone, and the query's modality is {modality}")
        if modality == "embedding":
            return self._truncated(unit_rows(queries))
        if self.model is None:
            raise ValueError('this index has no model: search it with embeddings (modality="embedding")')
        encode = encoder(self.model, modality, units, task="query")
        embeddings = encode(queries, convert_to="numpy", show_progress_bar=False)
        return self._truncated(unit_rows(embeddings))

    def _truncated(self, queries: Vectors) -> Vectors:
        """Queries of all dimensions are truncated as the index was; others may have been already."""
        kept = self._vectors.shape[1]
        return unit_rows(queries, kept) if queries.shape[1] == self._dimensions > kept else queries

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the index into a new folder, whole or not at all: vectors, rows, and which model made them.

        Args:
            folder: where to; rows of a data set are copied there, but not the files that they name.
            overwrite: replace an index that is there already.

        Raises:
            OSError: if something is there already, or it cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and not overwrite:
            raise FileExistsError(f"{folder}: exists already; choose another folder, or pass overwrite=True")
        with new_folder(folder, overwrite, INDEX_MANIFEST) as partial:
            about: About = {
                "model": self._made_by,
                "options": self._options,
                "dimensions": self._dimensions,
                "modality": self.modality,
                "column": self.column,
                "skipped": self.skipped,
            }
            write_index(partial, self._vectors, self.rows, about)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], model: Encoder | None = None) -> "EmbeddingIndex":
        """Read an index that `save` wrote; nothing in it is executed.

        Args:
            folder: where it is.
            model: the model that made it. Without it, queries are embeddings.

        Raises:
            ValueError: if another model or revision made it (the message says which), or the folder is damaged or not
                an index.
        """
        folder = Path(folder)
        manifest = read_index_manifest(folder)
        if model is not None:
            check_maker(folder, manifest["model"], maker(model))
        index = cls.__new__(cls)
        try:
            index._read(folder, manifest, model)
        except Exception as error:  # safetensors, FAISS and Arrow raise whatever they like on damaged files
            damaged = f"damaged ({type(error).__name__}: {one_line(error)})"
            reason = one_line(error) if isinstance(error, ValueError) else damaged
            raise ValueError(f"{folder}: {reason}") from error
        return index

    def _read(self, folder: Path, manifest: Manifest, model: Encoder | None) -> None:
        vectors = read_vectors(folder, manifest)
        with no_progress_bars():
            rows = load_from_disk(folder / ROWS) if manifest["has_rows"] else None
        if list(vectors.shape) != manifest["shape"] or (rows is not None and len(rows) != len(vectors)):
            raise ValueError("damaged, its vectors and rows are not those that were saved")
        modality, column, skipped = manifest["modality"], manifest["column"], manifest["skipped"]
        size, maker = manifest.get("dimensions", vectors.shape[1]), manifest["model"]
        self._set(vectors, rows, model, maker, size, modality=modality, column=column, skipped=skipped)
        self._options = manifest.get("options", {})
