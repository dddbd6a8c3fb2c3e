"""Reads a repo's tensors under the canonical legacy names."""

from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.configuration_multimodal_encoder import MultimodalEncoderConfig
from ..models.input_errors import one_line
from ..models.modeling_depth_autoencoder import DepthAutoencoderModel
from ..models.modeling_multimodal_encoder import MultimodalEncoderModel
from ..models.repo_code import installed_config
from ..places import check_places
from .families.legacy.multimodal_layouts import model_name
from .training_state import TRAINING_TENSORS

Config = DepthSemanticEncoderConfig | MultimodalEncoderConfig

# The parts of a ViT layer in the legacy order, which is not that of transformers 5.
_VIT_PARTS = (
    "attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense",
    "intermediate.dense", "output.dense", "layernorm_before", "layernorm_after",
)  # fmt: skip


def repo_folder(repo: str, revision: str = "main") -> Path:
    """Return the folder of a repo, which is downloaded first, at its revision, if it is a Hub id.

    Raises:
        ValueError: if there is no such repo.
    """
    if Path(repo).is_dir():
        return Path(repo)
    check_places(repo)
    try:
        return Path(snapshot_download(repo, revision=revision))
    except (OSError, ValueError) as error:
        raise ValueError(f"{repo}: no such folder, and not to be had from the Hub ({one_line(error)})") from error


def read_repo(folder: Path) -> tuple[Config, dict[str, Tensor]]:
    """Read the configuration and the tensors of a repo, by canonical name and in the legacy order.

    The depth tower of a multimodal repo, which no legacy file has, comes last, under the names in the model.

    Raises:
        ValueError: if it is neither a depth nor a multimodal repo, or lacks tensors.
    """
    config = installed_config(folder)
    if isinstance(config, MultimodalEncoderConfig):
        return config, _multimodal_tensors(folder, config)
    return read_depth_repo(folder)


def read_depth_repo(folder: Path) -> tuple[DepthSemanticEncoderConfig, dict[str, Tensor]]:
    """Read the configuration and the tensors of a repo that must hold a depth model.

    Raises:
        ValueError: if it is not a depth repo, or lacks tensors.
    """
    config = installed_config(folder)
    if not isinstance(config, DepthSemanticEncoderConfig):
        raise ValueError(f"{folder}: a {config.model_type} model, expected {DepthSemanticEncoderConfig.model_type}")
    written = _stored_tensors(folder)
    if not any(name.startswith("encoder.") for name in written):
        written = {f"encoder.{name}": tensor for name, tensor in written.items()}
    with torch.device("meta"):
        names = list(DepthAutoencoderModel(config).state_dict())
    if not any(name.startswith("decoder.") for name in written):
        names = [name for name in names if name.startswith("encoder.")]
    return config, _all_of(folder, names, written)


def _multimodal_tensors(folder: Path, config: MultimodalEncoderConfig) -> dict[str, Tensor]:
    towers = config.tower_config("text").model_type, config.tower_config("vision").model_type
    if towers != ("bert", "vit"):
        raise ValueError(f"{folder}: its towers are {' and '.join(towers)}; the legacy layout has bert and vit")
    # A model saves the names that it was loaded with: transformers 4's or 5's.
    names = _multimodal_names(config)
    canonical = {model_name(name): name for name in names}
    written = {canonical.get(name, name): tensor for name, tensor in _stored_tensors(folder).items()}
    return _all_of(folder, names, written)


def _multimodal_names(config: MultimodalEncoderConfig) -> list[str]:
    """Canonical names in the legacy order, then the depth tower's."""
    with torch.device("meta"):
        present = list(MultimodalEncoderModel(config).state_dict())
    layers = (
        f"visual_encoder.encoder.layer.{number}.{part}.{kind}"
        for number in range(config.tower_config("vision").num_hidden_layers)
        for part in _VIT_PARTS
        for kind in ("weight", "bias")
    )
    return [
        "temperature",
        *_beginning(present, "text_encoder."),
        *_beginning(present, "visual_encoder.embeddings."),
        *(name for name in layers if model_name(name) in present),
        *_beginning(present, "visual_encoder.layernorm."),
        *_beginning(present, "text_projection."),
        *_beginning(present, "visual_projection."),
        *_beginning(present, "depth_"),
    ]


def _beginning(names: Sequence[str], prefix: str) -> list[str]:
    return [name for name in names if name.startswith(prefix)]


def _stored_tensors(folder: Path) -> dict[str, Tensor]:
    stored: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name == TRAINING_TENSORS:
            continue
        try:
            stored |= load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: damaged ({error})") from None
    return stored


def _all_of(folder: Path, names: Sequence[str], written: dict[str, Tensor]) -> dict[str, Tensor]:
    missing = [name for name in names if name not in written]
    if missing:
        raise ValueError(f"{folder}: lacks {len(missing)} of its tensors, {missing[0]!r} among them")
    return {name: written[name] for name in names}
