"""Searches a collection by text, image or depth map: `EmbeddingIndex`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.processing_utils import Unpack

from ..arrays import Mask, Numbers, Vectors, unit_rows
from ..embed.folder import check_is_here, embedded_rows, map_vectors, read_manifest, shards_digest
from ..maker import maker
from ..modalities import Encoder, Modality, tower_of
from ..outputs import INDEX_MANIFEST, new_folder
from .choosing import searchable
from .embedding import embed_dataset
from .filters import Where, rows_where
from .found_rows import hits
from .indexed_rows import IndexedRows
from .lance_index import LanceIndex
from .queries import IndexOptions, SearchResult
from .saved_index import About, check_maker, read_index, read_index_manifest, warn_if_outdated, write_index
from .vectors import IndexType, Precision


class EmbeddingIndex(IndexedRows):
    """Embeddings of a collection, its rows, and the model that both were made with.

    ```python
    index = EmbeddingIndex.from_dataset(model, dataset, "image")
    index.search("a red lamp", k=5)                   # one query: a list of `SearchResult`, best first
    index.search(["a red lamp", "a blue chair"])      # several: a list of such lists
    index.search("maps/17.png", modality="depth")     # a path looks like a text, so its modality is said
    ```

    Search is exact up to a million rows. `precision` and `truncate_dim` make the vectors smaller, for some recall;
    `nbytes` is what they take in memory, and 0 for an index that was loaded, whose file is mapped:

    | precision | bytes of 256 dimensions | searched by |
    |---|---|---|
    | "float32" | 1024 | the query with all vectors |
    | "float16" | 512 | the same |
    | "int8" | 256 | the same; each dimension has 256 values between its lowest and its highest in the index |
    | "binary" | 40, and 256 for rescoring | signs (RaBitQ); the best candidates are rescored by the 8 bits |

    FAISS searches all but exact float32. Without it, what is exact is searched by NumPy, "binary" as "int8" is.

    Rows can be added and removed, and `where=` searches some of them. Rows keep their `SearchResult.index` when others
    are removed, also in a saved index.

    Args:
        embeddings: [N, D] numbers (array or tensor); each row is scaled to length 1.
        rows: N rows to return: a data set, or a list of dictionaries.
        model: embeds the queries. Without it, queries are embeddings.
        index_type: "exact", "hnsw" or "ivf" (approximate, need faiss; "hnsw" is not for "binary"). None is "exact",
            or "hnsw" for more than a million rows in float32.
        precision: see the table.
        truncate_dim: keep only the first dimensions, this many, of queries too: for models trained to allow it
            (Matryoshka).
        rescore_multiplier: "binary" rescores this many candidates per row to find; for a few rows take more.

    Attributes:
        rows: the rows, or None.
        model: the model, or None.
        modality: the modality that was embedded, where the index knows.
        column: the column that was embedded, where the index knows.
        skipped: positions of the rows that were left out, in the data set that was indexed.
        removed: positions of the rows that were removed.

    Raises:
        ValueError: for embeddings of another shape or without a direction (zeros, NaN), another number of rows, or
            invalid options.
    """

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
        truncate_dim = options.pop("truncate_dim", None)  # the index truncates, and queries with it
        made = embed_dataset(model, dataset, column, modality, options)
        index = cls(
            made.embeddings,
            made.rows,
            model,
            index_type,
            precision=precision,
            truncate_dim=truncate_dim,
            rescore_multiplier=rescore_multiplier,
        )
        index.modality, index.column, index.skipped = made.modality, column, made.skipped
        index._options = made.options
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
            index_type: "exact" searches on disk; "hnsw" and "ivf" (need faiss) are faster, and built in memory. Save
                such an index: a loaded one is mapped.
            precision: "float32" (see `index_type`), or what memory holds: "binary" the signs, whose best candidates
                are rescored from disk; "float16" and "int8" all vectors. A saved index of these is mapped.
            rescore_multiplier: see the class.

        Raises:
            ValueError: if another model or revision made it, the folder is damaged or not finished, or an option is
                invalid.
            OSError: if the vectors cannot be written there.
        """
        check_is_here(folder)
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
        index._options = None
        index._origin = {"folder": str(folder.absolute()), "shards": shards_digest(manifest)}
        return index

    @classmethod
    def from_lance(
        cls,
        uri: str | os.PathLike[str],
        model: Encoder | None = None,
        *,
        exact: bool = False,
        rescore_multiplier: int = 10,
        probes: int | None = None,
    ) -> LanceIndex:
        """Search the Lance table that `hf-encoders embed --output x.lance` wrote, on a disk or in an object store.

        Nothing of it is held in memory. Below a million rows `from_folder` is faster.

        Args:
            uri: a path that ends in .lance, or the URI of an object store, such as s3://bucket/maps.lance.
            model: see `LanceIndex`, as for the others.

        Raises:
            ValueError: if another model or revision made it, it is not finished, or Lance is not installed.
        """
        return LanceIndex(uri, model, exact=exact, rescore_multiplier=rescore_multiplier, probes=probes)

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

    def _checked(self, where: Where | None) -> Mask | None:
        return None if where is None else rows_where(where, self.rows, len(self))

    def _found(self, embeddings: Vectors, k: int, where: Mask | None) -> list[list[SearchResult]]:
        positions = self._positions
        found = zip(*self._vectors.search(embeddings, k, where), strict=True)
        return [hits(scores, numbers, positions, self.rows) for scores, numbers in found]

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the index into a new folder, whole or not at all: vectors, rows, and which model made them.

        Vectors that were removed are taken out first, of this index too.

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
                "removed": self.removed,
                "origin": self._origin,
            }
            write_index(partial, self._vectors, self.rows, about)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], model: Encoder | None = None) -> "EmbeddingIndex":
        """Open an index that `save` wrote; nothing in it is executed. Vectors and rows stay in their files, mapped.

        A warning is logged if it was made by `from_folder`, and that folder has other rows by now.

        Args:
            folder: where it is.
            model: the model that made it. Without it, queries are embeddings.

        Raises:
            ValueError: if another model or revision made it (the message says which), the folder is damaged or not an
                index, or it needs faiss, which is not installed.
        """
        folder = Path(folder)
        manifest = read_index_manifest(folder)
        if model is not None:
            check_maker(folder, manifest["model"], maker(model))
        vectors, rows, about = read_index(folder, manifest)
        index = cls.__new__(cls)
        index._set(
            vectors,
            rows,
            model,
            about["model"],
            about["dimensions"],
            modality=about["modality"],
            column=about["column"],
            skipped=about["skipped"],
            removed=about["removed"],
        )
        index._options, index._origin = about["options"], about["origin"]
        if index._origin is not None:
            warn_if_outdated(folder, index._origin)
        return index
