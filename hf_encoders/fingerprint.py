"""Which weights a model, and which bytes a file has: what tells an embedding's maker from every other model."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_VALUES_A_TENSOR = 256


def fingerprint(model: nn.Module) -> str:
    """A digest of the weights: the same on every device, another one after any training.

    It covers name, shape and up to some hundred evenly spaced values of each tensor, in float32: a few milliseconds
    for a large model, and training moves every tensor that it does not freeze. Weights that were loaded in half
    precision are other weights.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(_sample(tensor).numpy().tobytes())
    return digest.hexdigest()[:32]


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


def _sample(tensor: Tensor) -> Tensor:
    values = tensor.detach().reshape(-1)
    step = max(1, len(values) // _VALUES_A_TENSOR)
    return values[::step].to("cpu", torch.float32)
