"""Proves that a depth repo computes what its legacy checkpoint computes."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedConfig

from ..hub.reports import Verification, VerificationInputs
from ..models.modeling_depth_autoencoder import DepthAutoencoderModel
from ..models.repo_code import installed_config
from .compare import RELATIVE, SEED, judge
from .families.legacy import reference_depth

TOLERANCE = 1e-4  # largest difference, relative to the largest magnitude


def verification_maps(num_channels: int, size: int) -> Tensor:
    """Four fixed maps [4, C, size, size] in [-1, 1]: noise, a slope, smooth hills and a constant."""
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.rand(num_channels, size, size, generator=generator) * 2 - 1
    line = torch.linspace(-1, 1, size)
    slope = line.expand(num_channels, size, size)
    hills = (torch.sin(5 * line)[:, None] * torch.cos(3 * line)).expand(num_channels, size, size)
    return torch.stack([noise, slope, hills, torch.full_like(noise, 0.25)])


def depth_outputs(config: PreTrainedConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run the verification's maps through the legacy network.

    Args:
        config: the configuration of the depth encoder or autoencoder.
        tensors: by canonical name, in any precision: `encoder.`, and `decoder.` where it is compared too.
    """
    maps = verification_maps(config.num_channels, config.image_size)
    with torch.inference_mode():
        outputs = {"embeddings": reference_depth.encode(tensors, maps)}
        if any(name.startswith("decoder.") for name in tensors):
            outputs["reconstruction"] = reference_depth.decode(tensors, outputs["embeddings"])
    return outputs


def verify_depth(repo: Path, expected: Mapping[str, Tensor]) -> Verification:
    """Run the verification's maps through the repo, loaded with AutoModel, in float32.

    Args:
        repo: a folder with a depth encoder or autoencoder.
        expected: outputs of the legacy network over tensors in the repo's precision, see `depth_outputs`.

    Returns:
        The inputs and the largest differences, for the report.

    Raises:
        VerificationError: if a difference is too large, or not a number.
    """
    config = installed_config(repo)
    maps = verification_maps(config.num_channels, config.image_size)
    with torch.inference_mode():
        encoder = AutoModel.from_pretrained(repo, dtype=torch.float32, trust_remote_code=False)
        actual = {"embeddings": encoder(maps).pooler_output}
        if "reconstruction" in expected:
            autoencoder = DepthAutoencoderModel.from_pretrained(repo, dtype=torch.float32)
            actual["reconstruction"] = autoencoder(maps).reconstruction
    inputs: VerificationInputs = {
        "maps": ["noise", "slope", "hills", "constant"],
        "shape": list(maps.shape),
        "seed": SEED,
    }
    return judge(repo, inputs, expected, actual, TOLERANCE, RELATIVE)
