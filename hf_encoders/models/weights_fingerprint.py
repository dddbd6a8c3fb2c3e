"""The fingerprint of weights, which tells a model from every other one and from itself before more training."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from transformers.configuration_utils import PreTrainedConfig

try:  # a repo's code runs without it, where nobody asks for a fingerprint
    import xxhash
except ImportError:
    xxhash = None  # type: ignore[assignment]


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
    """Digest every byte of the weights: the same on every device, another digest after any change.

    It covers name, type, shape and all values of each tensor, buffers and adapters included: 1.6 GB take 0.12 s
    (benchmarks/bench_identity.py). Weights that were loaded in half precision are other weights.

    Returns:
        32 hexadecimal digits (XXH3, 128 bits).

    Raises:
        ValueError: if some weights are not in memory, such as those that `device_map` left on the disk.
        ImportError: if xxhash is not installed, which the package `hf-encoders` brings.
    """
    if xxhash is None:
        raise ImportError("a fingerprint of weights needs xxhash: pip install xxhash", name="xxhash")
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_meta:
            raise ValueError(f"{name} is not in memory, so the weights have no fingerprint; load the model as a whole")
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
