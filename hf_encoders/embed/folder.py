"""The vectors of a folder of embeddings as one matrix on disk, which searches read without a copy in memory."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from ..fingerprint import sha256
from ..outputs import new_file

MANIFEST, DATA, EMBEDDING = "manifest.json", "data", "embedding"
_ROWS_A_READ = 16_384


def read_manifest(folder: Path) -> dict[str, Any]:
    """What made a folder of embeddings.

    Raises:
        ValueError: if it is none, or not finished, or damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder}: no finished embeddings there (it has no {MANIFEST}); run hf-encoders embed")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if any(Path(shard["file"]).parts[:-1] != (DATA,) for shard in manifest["shards"]):
            raise ValueError(f"a shard lies outside of {DATA}/")
        return dict(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from error


def map_vectors(folder: Path, manifest: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The embeddings [N, D] as float32 rows of length 1, in a file that is mapped into memory.

    Parquet cannot be mapped: its columns are encoded pages. So the first call writes the matrix beside the shards, a
    few thousand rows at a time, in NumPy's own format (4 D bytes a row); its name has a digest of the shards, so that
    other shards get another one. Later calls open it at once, and processes of one machine share its pages.

    Raises:
        ValueError: if a shard is not the file that the manifest names, or a row has no direction.
        OSError: if the matrix cannot be written.
    """
    digest = hashlib.sha256(json.dumps(manifest["shards"], sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"vectors-{digest}.npy"
    shape = (manifest["rows"], manifest["dimensions"])
    if not path.is_file():
        with new_file(path, overwrite=True) as partial:
            _write(folder, manifest, partial, shape)
    vectors: np.ndarray[Any, Any] = np.load(path, mmap_mode="r") if shape[0] else np.empty(shape, np.float32)
    return vectors


def _write(folder: Path, manifest: dict[str, Any], path: Path, shape: tuple[int, int]) -> None:
    row = 0
    with path.open("wb") as output:
        np.lib.format.write_array_header_1_0(output, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for shard in manifest["shards"]:
            file = folder / shard["file"]
            if not file.is_file() or sha256(file) != shard["sha256"]:
                raise ValueError(f"{file}: missing or damaged; run the same hf-encoders embed again, which repairs it")
            with pq.ParquetFile(file) as content:
                for batch in content.iter_batches(_ROWS_A_READ, columns=[EMBEDDING]):
                    values = batch.column(0).flatten().to_numpy().reshape(len(batch), shape[1])
                    output.write(_unit_rows(values, row).data)
                    row += len(batch)


def _unit_rows(values: np.ndarray[Any, Any], first: int) -> np.ndarray[Any, Any]:
    values = values.astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ValueError(f"row {first + bad[0]} has no direction: it is all zeros, or holds NaN or infinity")
    return values / lengths
