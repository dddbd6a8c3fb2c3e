"""Fingerprints of weights and files, which tell the maker of an embedding from every other model."""

import hashlib
from collections.abc import Mapping
from typing import IO, Any, Literal, Protocol

from .models.weights_fingerprint import HasName, HasWeights, fingerprint

# Entries of a configuration that say where it came from, or what was measured; the type of the weights is theirs.
_WITHOUT_EFFECT = {
    "_name_or_path", "name_or_path", "transformers_version", "architectures", "auto_map", "custom_pipelines", "dtype",
    "zero_shot_calibration",
}  # fmt: skip


class Readable(Protocol):
    """A path on this machine, or at a URL."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open the file."""


def identity(model: HasName) -> dict[str, str | None]:
    """Name, revision and fingerprint of a model; the name is a repo's id or folder, empty if it came from none."""
    return {
        "name_or_path": model.config.name_or_path,
        "revision": getattr(model.config, "_commit_hash", None),
        "fingerprint": fingerprint(model),
    }


def sha256(path: Readable) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def settings_with_effect(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, as `to_dict` gives it, without what says nothing of the function."""
    return {
        name: settings_with_effect(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in _WITHOUT_EFFECT
    }


__all__ = ["HasName", "HasWeights", "Readable", "fingerprint", "identity", "settings_with_effect", "sha256"]
