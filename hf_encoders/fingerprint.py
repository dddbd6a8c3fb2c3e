"""Which weights a model, and which bytes a file has: what tells an embedding's maker from every other model."""

import hashlib
from pathlib import Path
from typing import Any

from .models.weights_fingerprint import fingerprint


def identity(model: Any) -> dict[str, str | None]:
    """Name, revision and fingerprint of a model; the name is a repo's id or folder, empty if it came from none."""
    return {
        "name_or_path": model.config.name_or_path,
        "revision": getattr(model.config, "_commit_hash", None),
        "fingerprint": fingerprint(model),
    }


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


__all__ = ["fingerprint", "identity", "sha256"]
