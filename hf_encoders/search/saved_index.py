"""The manifest of a saved index: which model made it, and what its files hold."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from ..fingerprint import sha256
from ..modalities import Modality
from ..outputs import INDEX_MANIFEST
from .quantized_vectors import QuantizedVectors
from .vectors import FloatVectors, IndexType, Precision

FORMAT = 1
ROWS = "rows"

# Name, revision and fingerprint, see `identity`.
Maker = dict[str, str | None]


class VectorsFile(TypedDict):
    """The file of the vectors."""

    file: str
    sha256: str


class _Manifest(TypedDict):
    format: int
    model: Maker | None
    index_type: IndexType
    shape: list[int]
    modality: Modality | None
    column: str | None
    skipped: list[int]
    has_rows: bool
    vectors: VectorsFile


class Manifest(_Manifest, total=False):
    """What is written beside vectors and rows; the first releases wrote neither precision nor dimensions."""

    precision: Precision
    dimensions: int
    rescore_multiplier: int


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
    if version != FORMAT:
        raise ValueError(f"{folder}: an index of format {version}; this version of hf_encoders reads {FORMAT}")
    return manifest


def read_vectors(folder: Path, manifest: Manifest) -> FloatVectors | QuantizedVectors:
    """Read the vectors that a manifest names.

    Raises:
        ValueError: if their file is not the one that was saved.
    """
    # A name, never a path: the file is one of this folder.
    path = folder / Path(manifest["vectors"]["file"]).name
    if sha256(path) != manifest["vectors"]["sha256"]:
        raise ValueError(f"damaged, {path.name} is not the file that was saved")
    precision = manifest.get("precision", "float32")
    if precision == "float32":
        return FloatVectors.load(path, manifest["index_type"])
    return QuantizedVectors.load(path, precision, manifest["rescore_multiplier"])


def check_maker(folder: Path, maker: object, given: Mapping[str, str | None]) -> None:
    """Refuse a model that did not make what is in a folder.

    Args:
        folder: what messages begin with.
        maker: the identity of the model that made it.
        given: the identity of the model that is to embed the queries.

    Raises:
        ValueError: if none made it, or one with other weights or of another revision.
    """
    if not isinstance(maker, dict):
        raise ValueError(f"{folder}: made from embeddings without a model; load it without one")
    name, revision = maker.get("name_or_path") or "a model from no repo", maker.get("revision")
    title = f"{name} at revision {revision}" if revision else str(name)
    if maker.get("fingerprint") != given["fingerprint"]:
        raise ValueError(f"{folder}: made by {title}; the model given has other weights (or loaded in another dtype)")
    if revision and given["revision"] and revision != given["revision"]:
        raise ValueError(f"{folder}: made by {title}; the model given is at revision {given['revision']}")
