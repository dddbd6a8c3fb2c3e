"""Proves that a repo computes what its legacy checkpoint computes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

import functional_depth
from hf_encoders import DepthAutoencoderModel

TOLERANCE = 1e-4  # largest difference, relative to the largest magnitude
_SEED = 0


class VerificationError(ValueError):
    """The repo and the legacy tensors do not give the same numbers."""


def verification_maps(num_channels: int, size: int) -> Tensor:
    """Four fixed maps [4, C, size, size] in [-1, 1]: noise, a slope, smooth hills and a constant."""
    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.rand(num_channels, size, size, generator=generator) * 2 - 1
    line = torch.linspace(-1, 1, size)
    slope = line.expand(num_channels, size, size)
    hills = (torch.sin(5 * line)[:, None] * torch.cos(3 * line)).expand(num_channels, size, size)
    return torch.stack([noise, slope, hills, torch.full_like(noise, 0.25)])


def verify(repo: Path, tensors: Mapping[str, Tensor], tolerance: float = TOLERANCE) -> dict[str, Any]:
    """Run the tensors through the functional forward and the repo through AutoModel, on the same maps, in float32.

    Args:
        repo: a folder with a depth encoder or autoencoder.
        tensors: the legacy tensors by canonical name (`encoder.`, `decoder.`), in the precision of the repo.
        tolerance: the largest difference that passes, relative to the largest magnitude.

    Returns:
        What was compared and the largest differences, for the report.

    Raises:
        VerificationError: if a difference is larger, or not a number.
    """
    config = AutoConfig.from_pretrained(repo)
    maps = verification_maps(config.num_channels, config.image_size)
    result: dict[str, Any] = {
        "inputs": {"maps": ["noise", "slope", "hills", "constant"], "shape": list(maps.shape), "seed": _SEED},
        "against": "functional forward over the legacy tensors, float32, CPU",
        "tolerance": tolerance,
    }
    with torch.inference_mode():
        expected = {"embeddings": functional_depth.encode(tensors, maps)}
        actual = {"embeddings": AutoModel.from_pretrained(repo, dtype=torch.float32)(maps).pooler_output}
        if DepthAutoencoderModel.__name__ in (config.architectures or []):
            autoencoder = DepthAutoencoderModel.from_pretrained(repo, dtype=torch.float32)
            expected["reconstruction"] = functional_depth.decode(tensors, expected["embeddings"])
            actual["reconstruction"] = autoencoder(maps).reconstruction
    for name in expected:
        result[name] = compare(expected[name], actual[name])
        difference = result[name]["relative_difference"]
        if not difference <= tolerance:  # NaN fails too
            raise VerificationError(
                f"{repo}: the {name} differ from the legacy network's by {difference:.1e} relative, more than"
                f" {tolerance:.0e}; this is a fault of the conversion, please report it"
            )
    return result


def compare(expected: Tensor, actual: Tensor) -> dict[str, float]:
    """Largest difference and largest magnitude, for the report."""
    difference = (expected - actual).abs().max().item()
    magnitude = expected.abs().max().item()
    return {
        "largest_difference": difference,
        "largest_magnitude": magnitude,
        "relative_difference": difference / magnitude if magnitude else difference,
    }
