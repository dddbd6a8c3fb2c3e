"""Verifies a converted repo again."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.errors import LayoutError, NoSuchWeightsError
from ..checkpoints.finding.choice import WeightsWanted
from ..checkpoints.state_dicts import check_values
from ..hub.reports import ConversionReport, Verification
from ..models.configuration_multimodal_encoder import MultimodalEncoderConfig
from .depth_tower import PROJECTION, TOWER
from .encoders.export import is_encoder
from .encoders.verify_again import verify_encoder_again
from .families.legacy.depth_layouts import LegacyDepthCheckpoint, read_depth_checkpoint
from .families.legacy.multimodal_layouts import LegacyMultimodalCheckpoint, read_multimodal_checkpoint
from .read_repo import Config, read_repo, repo_folder
from .report import read_report, weight_digests
from .verify_depth import depth_outputs, verify_depth
from .verify_multimodal import multimodal_outputs, verify_multimodal


def verify_repo(repo: str, checkpoint: Path | None = None, revision: str = "main") -> Verification:
    """Check that a repo's weights are those of its report, and that they give the legacy network's numbers.

    Args:
        repo: a folder or a Hub id.
        checkpoint: the legacy file to compare with; by default the repo's own tensors run through the legacy network.
        revision: branch, tag or commit of a repo on the Hub.

    Returns:
        What was compared, by how much it differs, and what the conversion assumed.

    Raises:
        ValueError: if something differs or is missing.
    """
    folder = repo_folder(repo, revision)
    report = read_report(folder)
    if weight_digests(folder) != report["weights_sha256"]:
        raise ValueError(f"{repo}: its weights are not those that the conversion wrote; convert the checkpoint again")
    if is_encoder(report):
        verification = verify_encoder_again(folder, report, checkpoint)
        verification["assumed"] = report.get("assumed", [])
        return verification
    config, written = read_repo(folder)
    if checkpoint is not None:
        written |= _source_tensors(repo, checkpoint, config, written, report)
    if isinstance(config, MultimodalEncoderConfig):
        verification = verify_multimodal(folder, multimodal_outputs(config, written))
    else:
        verification = verify_depth(folder, depth_outputs(config, written))
    verification["assumed"] = report.get("assumed", [])
    return verification


def _source_tensors(
    repo: str, checkpoint: Path, config: Config, written: Mapping[str, Tensor], report: ConversionReport
) -> dict[str, Tensor]:
    """Read a checkpoint's tensors in the precision of a repo, which must hold the same."""
    source = _read_source(checkpoint, config, report)
    # No legacy file holds the depth tower of a multimodal encoder.
    compared = {name: tensor for name, tensor in written.items() if not name.startswith((TOWER, PROJECTION))}
    missing = compared.keys() - source.tensors.keys()
    if missing:
        raise LayoutError(f"{checkpoint}: has no {min(missing)!r}, which {repo} has; it is not its source")
    check_values(checkpoint, {name: source.tensors[name] for name in compared})
    tensors = {name: source.tensors[name].to(tensor.dtype) for name, tensor in compared.items()}
    for name, tensor in tensors.items():
        if tensor.shape != written[name].shape or not torch.equal(tensor, written[name]):
            raise LayoutError(
                f"{checkpoint}: {source.source_keys[name]!r} is not what {repo} holds; it is not its source"
            )
    return tensors


def _read_source(
    checkpoint: Path, config: Config, report: ConversionReport
) -> LegacyDepthCheckpoint | LegacyMultimodalCheckpoint:
    """Read the weights that were converted; of another file with the same weights, those that it would convert."""
    taken = report["source"].get("weights")
    if taken is None:
        return _read(checkpoint, config, WeightsWanted())
    ignored = tuple(taken["ignored"])
    try:
        return _read(checkpoint, config, WeightsWanted(taken["path"], ignored))
    except NoSuchWeightsError:
        return _read(checkpoint, config, WeightsWanted(ignore=ignored))


def _read(
    checkpoint: Path, config: Config, wanted: WeightsWanted
) -> LegacyDepthCheckpoint | LegacyMultimodalCheckpoint:
    if isinstance(config, MultimodalEncoderConfig):
        text, vision = config.tower_config("text"), config.tower_config("vision")
        return read_multimodal_checkpoint(checkpoint, text, vision, wanted)
    return read_depth_checkpoint(checkpoint, wanted=wanted)
