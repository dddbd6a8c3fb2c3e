"""Fingerprints of weights and files, which tell the maker of an embedding from every other model."""

import hashlib
from collections.abc import Mapping
from typing import IO, Any, Literal, Protocol

import torch
import xxhash
from torch import Tensor
from transformers.configuration_utils import PreTrainedConfig

# Entries of a configuration that say where it came from, or what was measured; the type of the weights is theirs.
_WITHOUT_EFFECT = {
    "_name_or_path", "name_or_path", "transformers_version", "architectures", "auto_map", "dtype",
    "zero_shot_calibration",
}  # fmt: skip


class HasWeights(Protocol):
    """A module of PyTorch."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Name → tensor."""


class HasName(HasWeights, Protocol):
    """A model of transformers, whose configuration knows where it came from."""

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration."""


class Readable(Protocol):
    """A path on this machine, or at a URL."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open the file."""


def fingerprint(model: HasWeights) -> str:
    """Digest every byte of the weights: the same on every device, another digest after any change.

    It covers name, type, shape and all values of each tensor, buffers and adapters included: 1.6 GB take 0.12 s
    (benchmarks/bench_identity.py). Weights that were loaded in half precision are other weights.

    Returns:
        32 hexadecimal digits (XXH3, 128 bits).

    Raises:
        ValueError: if some weights are not in memory, such as those that `device_map` left on the disk.
    """
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_meta:
            raise ValueError(f"{name} is not in memory, so the weights have no fingerprint; load the model as a whole")
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
