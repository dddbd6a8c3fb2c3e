"""A depth semantic encoder as the third tower of a multimodal encoder."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoints.state_dicts import check_values
from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.image_processing_depth import DepthImageProcessor
from .read_repo import read_depth_repo, repo_folder
from .report import file_name

TOWER, PROJECTION = "depth_encoder.", "depth_projection."
_SEED = 0


@dataclass(frozen=True)
class DepthTower:
    """The parts that a depth repo gives a multimodal encoder.

    Args:
        name: the repo's name.
        config: the tower's configuration.
        processor: the processor for depth maps.
        tensors: the tower's weights and a freshly initialised projection, by their names in the multimodal model.
    """

    name: str
    config: DepthSemanticEncoderConfig
    processor: DepthImageProcessor
    tensors: dict[str, Tensor]


def read_depth_tower(repo: str, projection_dim: int) -> DepthTower:
    """Read a depth repo and make a projection for it, the same at each call.

    Raises:
        ValueError: if it is not a whole depth repo.
        OSError: if it has no processor.
    """
    folder = repo_folder(repo)
    config, tensors = read_depth_repo(folder)
    config.name_or_path = ""  # a path on this machine means nothing elsewhere
    tower = {TOWER + n.removeprefix("encoder."): t for n, t in tensors.items() if n.startswith("encoder.")}
    check_values(repo, tower)
    generator = torch.Generator().manual_seed(_SEED)
    weight = torch.randn(projection_dim, config.hidden_size, generator=generator) * config.hidden_size**-0.5
    projection = {f"{PROJECTION}weight": weight, f"{PROJECTION}bias": torch.zeros(projection_dim)}
    processor = DepthImageProcessor.from_pretrained(folder)
    return DepthTower(file_name(repo), config, processor, tower | projection)


def legacy_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the depth tower's tensors as the legacy depth network does."""
    return {f"encoder.{n.removeprefix(TOWER)}": t for n, t in tensors.items() if n.startswith(TOWER)}
