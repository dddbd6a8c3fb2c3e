"""The manifest of a saved index: which model made it, and what its files hold."""

import json
from pathlib import Path
from typing import TypedDict

from datasets import Dataset, DatasetInfo, load_from_disk
from transformers.utils import logging

from ..embed.folder import read_manifest, shards_digest
from ..fingerprint import sha256
from ..maker import Maker, differences
from ..modalities import Modality
from ..models.input_errors import one_line
from ..outputs import INDEX_MANIFEST
from ..progress import no_progress_bars
from .array_vectors import FILE, ArrayVectors
from .faiss_vectors import FaissVectors
from .vectors import IndexType, Precision, SearchedVectors

logger = logging.get_logger(__name__)

# Format 2 knows removed rows and FAISS's files of every precision; those of format 1 are read as before.
FORMAT, READ = 2, (1, 2)
ROWS = "rows"
# All that older versions wrote of a model.
_FIRST_KEYS = {"name_or_path", "revision", "fingerprint", "settings"}


class VectorsFile(TypedDict):
    """The file of the vectors."""

    file: str
    sha256: str


class Origin(TypedDict):
    """The folder of embeddings that an index was made from, and a digest of its shards."""

    folder: str
    shards: str


class About(TypedDict):
    """What an index knows beside its vectors and rows."""

    model: Maker | None
    options: dict[str, str] | None
    dimensions: int
    modality: Modality | None
    column: str | None
    skipped: list[int]
    removed: list[int]
    origin: Origin | None


class Manifest(About):
    """What is written beside vectors and rows; the first releases wrote neither precision, dimensions nor options."""

    format: int
    index_type: IndexType
    precision: Precision
    rescore_multiplier: int | None
    trained_rows: int | None
    shape: list[int]
    has_rows: bool
    vectors: VectorsFile


def write_index(folder: Path, vectors: SearchedVectors, rows: Dataset | None, about: About) -> None:
    """Write vectors, rows and manifest into a folder."""
    file = vectors.save(folder)
    if rows is not None:
        with no_progress_bars():
            rows.save_to_disk(folder / ROWS)
    manifest: Manifest = {
        "format": FORMAT,
        **about,
        "index_type": vectors.index_type,
        "precision": vectors.precision,
        "rescore_multiplier": vectors.rescore_multiplier,
        "trained_rows": vectors.trained_rows,
        "shape": list(vectors.shape),
        "has_rows": rows is not None,
        "vectors": {"file": file, "sha256": sha256(folder / file)},
    }
    (folder / INDEX_MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")


def read_index_manifest(folder: Path) -> Manifest:
    """Read the manifest of a saved index.

    Raises:
        ValueError: if the folder is no index, is damaged, or has another format.
    """
    path = folder / INDEX_MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder}: no index there (it has no {INDEX_MANIFEST})")
    try:
        manifest: Manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
        manifest["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: damaged, its {INDEX_MANIFEST} cannot be read ({error})") from error
    if version not in READ:
        raise ValueError(f"{folder}: an index of format {version}; this version of hf_encoders reads up to {FORMAT}")
    return manifest


def read_index(folder: Path, manifest: Manifest) -> tuple[SearchedVectors, Dataset | None, About]:
    """Open the vectors and rows that a manifest names, and what the index knows beside them.

    Raises:
        ValueError: if they are not those that were saved, or need faiss, which is not installed.
    """
    try:
        vectors = _read_vectors(folder, manifest)
        rows = _read_rows(folder / ROWS, manifest["shape"][0]) if manifest["has_rows"] else None
        if list(vectors.shape) != manifest["shape"] or (rows is not None and len(rows) != len(vectors)):
            raise ValueError("damaged, its vectors and rows are not those that were saved")
        about: About = {
            "model": manifest["model"],
            "options": manifest.get("options", {}),
            "dimensions": manifest.get("dimensions", vectors.dimensions),
            "modality": manifest["modality"],
            "column": manifest["column"],
            "skipped": manifest["skipped"],
            "removed": manifest.get("removed", []),
            "origin": manifest.get("origin"),
        }
    except Exception as error:  # safetensors, FAISS and Arrow raise whatever they like on damaged files
        damaged = f"damaged ({type(error).__name__}: {one_line(error)})"
        reason = one_line(error) if isinstance(error, ValueError) else damaged
        raise ValueError(f"{folder}: {reason}") from error
    return vectors, rows, about


def warn_if_outdated(folder: Path, origin: Origin) -> None:
    """Warn of an index whose folder of embeddings has other rows by now; one that is not there says nothing."""
    try:
        shards = shards_digest(read_manifest(Path(origin["folder"])))
    except (ValueError, OSError):
        return
    if shards != origin["shards"]:
        logger.warning(
            "%s: %s, from which this index was made, has other rows now, which it does not find; make it again",
            folder,
            origin["folder"],
        )


def _read_vectors(folder: Path, manifest: Manifest) -> SearchedVectors:
    # A name, never a path: the file is one of this folder.
    path = folder / Path(manifest["vectors"]["file"]).name
    if sha256(path) != manifest["vectors"]["sha256"]:
        raise ValueError(f"damaged, {path.name} is not the file that was saved")
    precision, trained_rows = manifest.get("precision", "float32"), manifest.get("trained_rows")
    if path.name == FILE:
        return ArrayVectors.load(path, precision, trained_rows)
    multiplier = manifest.get("rescore_multiplier") or 1
    return FaissVectors.load(path, manifest["index_type"], precision, multiplier, trained_rows)


def _read_rows(folder: Path, count: int) -> Dataset:
    if not count:  # `datasets` writes no rows and cannot read that
        features = DatasetInfo.from_directory(str(folder)).features
        return Dataset.from_dict({name: [] for name in features}, features=features)
    with no_progress_bars():
        return load_from_disk(folder)


def check_maker(folder: Path | str, before: object, now: Maker) -> None:
    """Refuse a model that did not make what is in a folder.

    Args:
        folder: what messages begin with.
        before: the model that made it, see `maker`.
        now: the model that is to embed the queries.

    Raises:
        ValueError: if none made it, or one that differs in anything; the message says in what.
    """
    if not isinstance(before, dict):
        raise ValueError(f"{folder}: made from embeddings without a model; load it without one")
    name, revision = before.get("name_or_path") or "a model from no repo", before.get("revision")
    title = f"{name} at revision {revision}" if revision else str(name)
    if before.keys() & now.keys() <= _FIRST_KEYS:
        raise ValueError(
            f"{folder}: made by {title} with an older hf_encoders, which did not write down all that made it; make it"
            " again, or load it without a model"
        )
    shared = {name: value for name, value in now.items() if name in before}  # of a folder: one modality's processor
    if differing := differences(before, shared):
        raise ValueError(f"{folder}: made by {title}; the model given has other {', other '.join(differing)}")
