"""Fingerprints of weights and files, which tell the maker of an embedding from every other model."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers.configuration_utils import PreTrainedConfig

_VALUES_PER_TENSOR = 256


class HasWeights(Protocol):
    """A module of PyTorch."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Name → tensor."""


class HasName(HasWeights, Protocol):
    """A model of transformers, whose configuration knows where it came from."""

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration."""


def fingerprint(model: HasWeights) -> str:
    """Digest the weights: the same on every device, another digest after any training.

    It covers the name and the shape of each tensor, and at least 256 evenly spaced values of it (all of a smaller one),
    in float32. That takes milliseconds for a large model, and training moves every tensor that it does not freeze.
    Weights that were loaded in half precision are other weights.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(_sample(tensor).numpy().tobytes())
    return digest.hexdigest()[:32]


def identity(model: HasName) -> dict[str, str | None]:
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


def _sample(tensor: Tensor) -> Tensor:
    values = tensor.detach().reshape(-1)
    step = max(1, len(values) // _VALUES_PER_TENSOR)
    return values[::step].to("cpu", torch.float32)
