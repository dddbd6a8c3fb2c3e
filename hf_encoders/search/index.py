"""Searches a collection by text, image or depth map: `EmbeddingIndex`."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from datasets import Dataset, load_from_disk

from ..embed.folder import map_vectors, read_manifest
from ..fingerprint import identity, sha256
from ..modalities import column_modality, encoder, modalities, picture_modality
from ..models.input_errors import one_line
from ..outputs import INDEX_MANIFEST, new_folder
from ..progress import no_progress_bars
from .quantized_vectors import QuantizedVectors, searchable
from .vectors import Vectors, unit_rows

_FORMAT = 1
_ROWS = "rows"
# An array of so many dimensions at most is one query.
_SINGLE_DIMENSIONS = {"embedding": 1, "text": 0, "depth": 2, "image": 3}


@dataclass(frozen=True)
class SearchResult:
    """One hit.

    Args:
        index: the row's position in the data set that was indexed.
        score: cosine of query and row, in [-1, 1]; with a `precision` less than float32, as far as that tells.
        row: the row itself; empty in an index without rows.
    """

    index: int
    score: float
    row: dict[str, Any] = field(repr=False)


class EmbeddingIndex:
    """Embeddings of a collection, its rows, and the model that both were made with.

    ```python
    index = EmbeddingIndex.from_dataset(model, dataset, "image")
    index.search("a red lamp", k=5)                   # one query: a list of `SearchResult`, best first
    index.search(["a red lamp", "a blue chair"])      # several: a list of such lists
    index.search("maps/17.png", modality="depth")     # a path looks like a text, so its modality is said
    ```

    Search is exact up to a million rows, through FAISS or, where that is not installed, NumPy. `precision` and
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
        model: what embeds the queries. Without it, queries are embeddings.
        index_type: "exact", "hnsw" or "ivf" (approximate, need faiss); None chooses by size, see `Vectors`. Precisions
            other than "float32" are exact.
        precision: see the table. Binary vectors loaded by `load` leave their 8 bits in the file; new ones hold them.
        truncate_dim: keep the first so many dimensions, of queries too: for models trained to allow it (Matryoshka).
        rescore_multiplier: "binary" rescores so many candidates for each row to find; for a few rows take more.

    Raises:
        ValueError: for embeddings of another shape or without a direction (zeros, NaN), another number of rows, or
            options that do not exist or fit.
    """

    def __init__(
        self,
        embeddings: Any,
        rows: Dataset | Sequence[Mapping[str, Any]] | None = None,
        model: Any = None,
        index_type: str | None = None,
        *,
        precision: str = "float32",
        truncate_dim: int | None = None,
        rescore_multiplier: int = 4,
    ):
        scaled = unit_rows(embeddings, truncate_dim)
        self._vectors = searchable(scaled, index_type, precision, rescore_multiplier)
        self._dimensions = np.shape(embeddings)[1]  # before truncation
        if rows is not None and len(rows) != len(self):
            raise ValueError(f"{len(self)} embeddings and {len(rows)} rows")
        self.rows = rows if rows is None or isinstance(rows, Dataset) else Dataset.from_list(list(rows))
        self.model = model
        self.modality: str | None = None
        self.column: str | None = None
        self.skipped: list[int] = []
        self._made_by = None if model is None else identity(model)

    @classmethod
    def from_dataset(
        cls,
        model: Any,
        dataset: Dataset,
        column: str,
        modality: str | None = None,
        *,
        index_type: str | None = None,
        precision: str = "float32",
        truncate_dim: int | None = None,
        rescore_multiplier: int = 4,
        **options: Any,
    ) -> "EmbeddingIndex":
        """Embed a column and index it. Memory holds the embeddings and one batch of inputs.

        Args:
            model: a multimodal encoder, or a depth encoder for `modality="depth"`.
            dataset: its rows are what `search` returns.
            column: texts, images or depth maps; strings are the paths of images or maps.
            modality: "text", "image" or "depth". By default, pictures of 16 and 32 bits are depth maps, and anything
                else is an image, or a depth map where the model embeds no images.
            index_type: see the class, as for `precision`, `truncate_dim` and `rescore_multiplier`.
            options: what the model's `encode...` takes, such as `batch_size`, `device`, `dtype`, or `on_error="skip"`,
                which leaves out rows that cannot be read; `skipped` then lists their positions.

        Raises:
            TypeError: if `dataset` is no `datasets.Dataset` (a streamed one has no rows to come back to).
            ValueError: for a column or modality that is not there, or a row that cannot be embedded.
        """
        if not isinstance(dataset, Dataset):
            raise TypeError(f"a {type(dataset).__name__}, expected a datasets.Dataset (one split, not streamed)")
        if column not in dataset.column_names:
            raise ValueError(f"no column {column!r}; the data set has {', '.join(dataset.column_names)}")
        modality = modality or column_modality(model, dataset, column)
        embeddings = encoder(model, modality)(dataset[column], **options, convert_to="numpy")
        skipped: list[int] = []
        rows = dataset
        if options.get("on_error") == "skip":
            embeddings, kept = embeddings
            skipped = np.flatnonzero(~kept).tolist()
            rows = dataset.select(np.flatnonzero(kept))
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
        return index

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        model: Any = None,
        index_type: str = "exact",
        *,
        precision: str = "float32",
        rescore_multiplier: int = 4,
    ) -> "EmbeddingIndex":
        """Index what `hf-encoders embed` wrote, of any size: vectors and rows stay on disk, mapped into memory.

        The first call writes both in the form that can be mapped: the vectors beside the shards, which takes 4 D bytes
        a row, and the rows into the cache of `datasets`. An exact search reads all vectors, from memory as far as they
        fit there.

        Args:
            folder: where it is.
            model: the model that made it. Without it, queries are embeddings.
            index_type: "exact" searches on disk; "hnsw" and "ivf" (need faiss) are faster, and hold all in memory.
            precision: "float32" (see `index_type`), or what memory holds: "binary" the signs, of which the best
                candidates are rescored from disk, "float16" and "int8" all.
            rescore_multiplier: see the class.

        Raises:
            ValueError: if another model or revision made it, the folder is damaged or not finished, or for options
                that do not exist or fit.
            OSError: if the vectors cannot be written there.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if model is not None:
            _check_model(folder, manifest["model"], identity(model))
        embeddings = map_vectors(folder, manifest)
        index = cls.__new__(cls)
        index._vectors = searchable(embeddings, index_type, precision, rescore_multiplier, in_place=True)
        files = [str(folder / shard["file"]) for shard in manifest["shards"]]
        columns = ["id", *manifest["columns"]]
        with no_progress_bars():
            index.rows = Dataset.from_parquet(files, columns=columns) if len(embeddings) else None
        index.model, index._made_by, index.skipped = model, manifest["model"], []
        index.modality, index.column = manifest["modality"], manifest["column"]
        index._dimensions = embeddings.shape[1]
        return index

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def index_type(self) -> str:
        """How it searches: "exact", "hnsw" or "ivf"."""
        return self._vectors.index_type

    @property
    def precision(self) -> str:
        """What the vectors are searched in: "float32", "float16", "int8" or "binary"."""
        return self._vectors.precision

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors in memory; rows and the links of an approximate index are not among them."""
        return self._vectors.nbytes

    def search(self, query: Any, k: int = 10, modality: str | None = None) -> Any:
        """Find the k nearest rows of a query, or of each query in a batch.

        Args:
            query: what the model's `encode...` takes: a text, a path, a PIL image, an array, a list of them, or
                embeddings [D] or [Q, D].
            k: how many rows; all of them if there are fewer. Approximate indexes may find fewer.
            modality: "text", "image", "depth" or "embedding". By default strings are texts, colour PIL images are
                images and 16-bit, 32-bit and float ones are depth maps; anything else must be said, unless the model
                has one modality only.

        Returns:
            A list of `SearchResult`, best first; for a batch, a list of such lists.

        Raises:
            ValueError: if `k` is less than 1, the modality is unclear or not the model's, or a query cannot be read.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        modality = modality or self._guess_modality(query)
        is_single = _is_single(query, modality)
        queries = [query] if is_single else query
        if not len(queries):
            return []
        found = self._search_embeddings(self._embed(queries, modality), k)
        return found[0] if is_single else found

    def _search_embeddings(self, queries: np.ndarray[Any, Any], k: int) -> list[list[SearchResult]]:
        if queries.shape[1] != self._vectors.shape[1]:
            raise ValueError(f"queries of {queries.shape[1]} dimensions, the index has {self._vectors.shape[1]}")
        if not len(self):
            return [[] for _ in queries]
        positions: Any = range(len(self))
        if self.skipped:
            positions = np.delete(np.arange(len(self) + len(self.skipped)), self.skipped)
        return [
            [
                SearchResult(int(positions[number]), float(score), {} if self.rows is None else self.rows[int(number)])
                for score, number in zip(scores, numbers, strict=True)
                if number >= 0
            ]
            for scores, numbers in zip(*self._vectors.search(queries, k), strict=True)
        ]

    def _embed(self, queries: Any, modality: str) -> np.ndarray[Any, Any]:
        if modality == "embedding":
            return self._truncated(unit_rows(queries))
        if self.model is None:
            raise ValueError('this index has no model: search it with embeddings (modality="embedding")')
        embeddings = encoder(self.model, modality)(queries, convert_to="numpy", show_progress_bar=False)
        return self._truncated(unit_rows(embeddings))

    def _truncated(self, queries: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Queries of all dimensions are cut as the index was; others may have been cut already."""
        kept = self._vectors.shape[1]
        return unit_rows(queries, kept) if queries.shape[1] == self._dimensions > kept else queries

    def _guess_modality(self, query: Any) -> str:
        known = ["embedding"] if self.model is None else modalities(self.model)
        if len(known) == 1:
            return known[0]
        first = query[0] if isinstance(query, (list, tuple)) and query else query
        if isinstance(first, str) or (isinstance(query, (list, tuple)) and not query):
            return "text"
        if modality := picture_modality(first):
            return modality
        raise ValueError(
            f"a {type(first).__name__} may be several things: say modality='text', 'image', 'depth' or 'embedding'"
        )

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the index into a new folder, whole or not at all: vectors, rows, and which model made them.

        Args:
            folder: where to; rows of a data set are copied there, files that they only name are not.
            overwrite: replace an index that is there already.

        Raises:
            OSError: if something is there already, or it cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and not overwrite:
            raise FileExistsError(f"{folder}: exists already; choose another folder, or pass overwrite=True")
        with new_folder(folder, overwrite, INDEX_MANIFEST) as partial:
            file = self._vectors.save(partial)
            if self.rows is not None:
                with no_progress_bars():
                    self.rows.save_to_disk(partial / _ROWS)
            manifest = {
                "format": _FORMAT,
                "model": self._made_by,
                "index_type": self.index_type,
                "precision": self.precision,
                "shape": list(self._vectors.shape),
                "dimensions": self._dimensions,
                "modality": self.modality,
                "column": self.column,
                "skipped": self.skipped,
                "has_rows": self.rows is not None,
                "vectors": {"file": file, "sha256": sha256(partial / file)},
            }
            if isinstance(self._vectors, QuantizedVectors):
                manifest["rescore_multiplier"] = self._vectors.rescore_multiplier
            (partial / INDEX_MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str], model: Any = None) -> "EmbeddingIndex":
        """Read an index that `save` wrote; nothing in it is executed.

        Args:
            folder: where it is.
            model: the model that made it. Without it, queries are embeddings.

        Raises:
            ValueError: if another model or revision made it (the message says which), or the folder is damaged or no
                index.
        """
        folder = Path(folder)
        if not (folder / INDEX_MANIFEST).is_file():
            raise ValueError(f"{folder}: no index there (it has no {INDEX_MANIFEST})")
        try:
            manifest = json.loads((folder / INDEX_MANIFEST).read_text(encoding="utf-8"))
            made_by, version = manifest["model"], manifest["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder}: damaged, its {INDEX_MANIFEST} cannot be read ({error})") from error
        if version != _FORMAT:
            raise ValueError(f"{folder}: an index of format {version}; this version of hf_encoders reads {_FORMAT}")
        if model is not None:
            _check_model(folder, made_by, identity(model))
        index = cls.__new__(cls)
        index.model, index._made_by = model, made_by
        try:
            index._read(folder, manifest)
        except Exception as error:  # safetensors, FAISS and Arrow raise whatever they like on damaged files
            raise ValueError(f"{folder}: {_reason(error)}") from error
        return index

    def _read(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.modality, self.column, self.skipped = manifest["modality"], manifest["column"], manifest["skipped"]
        # A name, never a path: the file is one of this folder.
        path = folder / Path(manifest["vectors"]["file"]).name
        if sha256(path) != manifest["vectors"]["sha256"]:
            raise ValueError(f"damaged, {path.name} is not the file that was saved")
        if manifest.get("precision", "float32") == "float32":
            self._vectors = Vectors.load(path, manifest["index_type"])
        else:
            self._vectors = QuantizedVectors.load(path, manifest["precision"], manifest["rescore_multiplier"])
        self._dimensions = manifest.get("dimensions", self._vectors.shape[1])
        with no_progress_bars():
            self.rows = load_from_disk(folder / _ROWS) if manifest["has_rows"] else None
        if list(self._vectors.shape) != manifest["shape"] or (self.rows is not None and len(self.rows) != len(self)):
            raise ValueError("damaged, its vectors and rows are not those that were saved")


def _is_single(query: Any, modality: str) -> bool:
    if hasattr(query, "ndim"):
        return bool(query.ndim <= _SINGLE_DIMENSIONS.get(modality, 0))
    if modality == "embedding":
        return np.ndim(query[0]) == 0 if len(query) else False
    return isinstance(query, (str, bytes, os.PathLike, PIL.Image.Image, Mapping))


def _check_model(folder: Path, made_by: Any, given: dict[str, str | None]) -> None:
    if not isinstance(made_by, dict):
        raise ValueError(f"{folder}: made from embeddings without a model; load it without one")
    name, revision = made_by.get("name_or_path") or "a model from no repo", made_by.get("revision")
    maker = f"{name} at revision {revision}" if revision else str(name)
    if made_by.get("fingerprint") != given["fingerprint"]:
        raise ValueError(f"{folder}: made by {maker}; the model given has other weights (or loaded in another dtype)")
    if revision and given["revision"] and revision != given["revision"]:
        raise ValueError(f"{folder}: made by {maker}; the model given is at revision {given['revision']}")


def _reason(error: Exception) -> str:
    text = one_line(error)
    return text if isinstance(error, ValueError) else f"damaged ({type(error).__name__}: {text})"
