"""A folder of embeddings: its manifest, and its vectors as one matrix that searches read without a copy in memory."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets import Dataset

from ..arrays import Vectors, unit_rows
from ..data.remote_path import place_of
from ..fingerprint import sha256
from ..modalities import Modality
from ..outputs import new_file
from ..progress import no_progress_bars

PLAN, MANIFEST, DATA, ID, EMBEDDING = "plan.json", "manifest.json", "data", "id", "embedding"
# Keys that other people's files of these names hardly have together.
_TELLING = {"model", "dataset", "modality", "shard_rows", "dimensions"}
_ROWS_PER_READ = 16_384


class Plan(TypedDict):
    """Everything that the result depends on. A later run in the same folder must have the same plan."""

    format: int
    model: dict[str, str | None]
    dataset: dict[str, str | int]
    modality: Modality
    column: str
    id_column: str | None
    columns: list[str]
    dtype: str
    dimensions: int
    shard_rows: int
    options: dict[str, str | None]


class ShardEntry(TypedDict):
    """A shard in a manifest."""

    file: str
    rows: int
    bytes: int
    sha256: str


class BadRow(TypedDict):
    """A row that could not be embedded."""

    id: str
    reason: str


class BadRows(TypedDict):
    """All rows that could not be embedded, and the first of them."""

    count: int
    first: list[BadRow]


class FolderManifest(Plan):
    """What is in a finished folder, and what made it."""

    rows: int
    bad_rows: BadRows
    shards: list[ShardEntry]
    versions: dict[str, str]


def is_embedded(folder: str | os.PathLike[str]) -> bool:
    """Whether `hf-encoders embed` wrote a folder, or began to; it may be one at a URL."""
    place = place_of(os.fspath(folder))
    for name in (PLAN, MANIFEST):
        try:
            content = json.loads((place / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and _TELLING <= content.keys():
            return True
    return False


def check_is_here(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder at a URL, whose vectors cannot be mapped into memory.

    Raises:
        ValueError: says to copy it.
    """
    if not isinstance(place_of(os.fspath(folder)), Path):
        raise ValueError(f"{folder}: vectors are mapped from a disk: copy the folder to this machine first")


def read_manifest(folder: Path) -> FolderManifest:
    """Read the manifest of a folder of embeddings.

    Raises:
        ValueError: if the folder has none, or is not finished, or is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        unfinished = f"it has no {MANIFEST}, which the end of hf-encoders embed writes"
        hint = "run the same command again, which goes on" if (folder / PLAN).is_file() else "run it"
        raise ValueError(f"{folder}: no finished embeddings there ({unfinished}); {hint}")
    try:
        manifest: FolderManifest = json.loads(path.read_text(encoding="utf-8"))
        if any(Path(shard["file"]).parts[:-1] != (DATA,) for shard in manifest["shards"]):
            raise ValueError(f"a shard lies outside of {DATA}/")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    return manifest


def shards_digest(manifest: FolderManifest) -> str:
    """Digest what the shards hold, in 16 hexadecimal digits: a folder that followed its data has another one."""
    return hashlib.sha256(json.dumps(manifest["shards"], sort_keys=True).encode()).hexdigest()[:16]


def embedded_rows(folder: Path, manifest: FolderManifest) -> Dataset | None:
    """The ids and kept columns of the rows, mapped from the cache of `datasets`; None if there is no row."""
    if not manifest["rows"]:
        return None
    files = [str(folder / shard["file"]) for shard in manifest["shards"]]
    with no_progress_bars():
        return Dataset.from_parquet(files, columns=[ID, *manifest["columns"]])


def map_vectors(folder: Path, manifest: FolderManifest) -> Vectors:
    """Map the embeddings [N, D] into memory, as float32 rows of length 1.

    Parquet cannot be mapped: its columns are encoded pages. So the first call writes the matrix beside the shards, a
    few thousand rows at a time, in NumPy's own format (4 D bytes per row). Its name has a digest of the shards, so that
    other shards get another one. Later calls open it at once, and processes of one machine share its pages.

    Raises:
        ValueError: if a shard is not the file that the manifest names, or an embedding has no direction.
        OSError: if the matrix cannot be written.
    """
    path = folder / f"vectors-{shards_digest(manifest)}.npy"
    shape = (manifest["rows"], manifest["dimensions"])
    if not path.is_file():
        with new_file(path, overwrite=True) as partial:
            _write_matrix(folder, manifest["shards"], partial, shape)
        for other in folder.glob("vectors-*.npy"):  # of earlier shards; who has mapped it keeps it
            if other != path:
                with suppress(OSError):
                    other.unlink()
    if not shape[0]:  # an empty file cannot be mapped
        return np.empty(shape, np.float32)
    vectors: Vectors = np.load(path, mmap_mode="r")
    return vectors


def _write_matrix(folder: Path, shards: list[ShardEntry], path: Path, shape: tuple[int, int]) -> None:
    row = 0
    with path.open("wb") as output:
        np.lib.format.write_array_header_1_0(output, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for shard in shards:
            file = folder / shard["file"]
            if not file.is_file() or sha256(file) != shard["sha256"]:
                raise ValueError(f"{file}: missing or damaged; run the same hf-encoders embed again, which repairs it")
            with pq.ParquetFile(file) as content:
                for batch in content.iter_batches(_ROWS_PER_READ, columns=[EMBEDDING]):
                    values = batch.column(0).flatten().to_numpy().reshape(len(batch), shape[1])
                    output.write(unit_rows(values, first_row=row).data)
                    row += len(batch)
