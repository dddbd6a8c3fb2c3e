"""Exports a repo to a legacy .pth or .pt file with equal tensors."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.state_dicts import STATISTICS
from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.configuration_multimodal_encoder import MultimodalEncoderConfig
from ..outputs import new_file
from .encoders.export import encoder_checkpoint, is_encoder
from .export_multimodal import multimodal_checkpoint
from .families.legacy.depth_layouts import MODEL_TYPE
from .read_repo import read_repo, repo_folder
from .report import REPORT_NAME, known_metadata, read_report


def export(
    repo: str, output: Path, *, autoencoder: bool = False, overwrite: bool = False, revision: str = "main"
) -> list[str]:
    """Write a legacy file from a repo.

    Args:
        repo: a folder or a Hub id, from the converter or from `save_pretrained`.
        output: the file to write.
        autoencoder: write the whole depth network as a training checkpoint, not the encoder alone.
        overwrite: replace an existing file.
        revision: branch, tag or commit of a repo on the Hub.

    Returns:
        Notes about the file for a person, one sentence each.

    Raises:
        ValueError: if the repo holds no depth or multimodal model, or no decoder where `autoencoder` needs one.
        OSError: if the output exists already or cannot be written.
    """
    folder = repo_folder(repo, revision)
    if (folder / REPORT_NAME).is_file() and is_encoder(report := read_report(folder)):
        if autoencoder:
            raise ValueError(f"{repo}: has no decoder; leave --autoencoder out")
        content, notes = encoder_checkpoint(folder, report)
        _save(content, output, overwrite)
        return notes
    config, tensors = read_repo(folder)
    if autoencoder and not any(name.startswith("decoder.") for name in tensors):
        is_depth = isinstance(config, DepthSemanticEncoderConfig)
        hint = "leave --autoencoder out" + (", or convert with --include-decoder" if is_depth else "")
        raise ValueError(f"{repo}: has no decoder; {hint}")
    notes = []
    if isinstance(config, MultimodalEncoderConfig):
        content, notes = multimodal_checkpoint(folder, tensors)
    elif autoencoder:
        content = _training_checkpoint(folder, config, tensors)
    else:
        content = _extracted(repo, config, tensors)
    _save(content, output, overwrite)
    return notes


def _save(content: Mapping[str, object], output: Path, overwrite: bool) -> None:
    with new_file(output, overwrite) as partial, partial.open("wb") as file:
        torch.save(content, file)


def _extracted(repo: str, config: DepthSemanticEncoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, object]:
    encoder = {n.removeprefix("encoder."): t for n, t in tensors.items() if n.startswith("encoder.")}
    parameters = sum(tensor.numel() for name, tensor in encoder.items() if not name.endswith(STATISTICS))
    return {
        "encoder_state_dict": encoder,
        "model_config": {
            "input_channels": config.num_channels,
            "latent_dim": config.hidden_size,
            "model_type": MODEL_TYPE,
        },
        "extracted_from": repo,
        "extraction_info": {
            "total_params": parameters,
            "trainable_params": parameters,
            "num_weights": len(encoder),
        },
    }


def _training_checkpoint(
    folder: Path, config: DepthSemanticEncoderConfig, tensors: Mapping[str, Tensor]
) -> dict[str, object]:
    known = known_metadata(folder)
    stated = known.get("config")
    sizes = {
        "image_size": config.image_size,
        "latent_dim": config.hidden_size,
        "input_channels": config.num_channels,
    }
    return {
        **known,
        "model_state_dict": dict(tensors),
        "config": {**(stated if isinstance(stated, Mapping) else {}), **sizes},
    }
