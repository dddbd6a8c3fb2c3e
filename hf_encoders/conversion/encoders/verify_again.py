"""Verifies the repo of a converted encoder again, against its file or its own tensors under their old names."""

from dataclasses import replace
from pathlib import Path

import torch

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.errors import LayoutError, NoSuchWeightsError
from ...checkpoints.files import open_checkpoint
from ...checkpoints.finding.choice import ChosenWeights, WeightsWanted, choose
from ...checkpoints.state_dicts import check_values
from ...hub.reports import ConversionReport, Verification
from ...models.repo_code import installed_config
from ..families.encoders import ENCODERS
from ..families.family import EncoderOptions
from ..families.names import FAMILIES
from .export import as_checkpoint, encoder_checkpoint
from .source import EncoderSource, recognise_encoder
from .verification import encoder_outputs, verify_encoder


def verify_encoder_again(folder: Path, report: ConversionReport, checkpoint: Path | None) -> Verification:
    """Run the family's reference over the old tensors, and compare its outputs with the repo's.

    Args:
        folder: a converted repo.
        report: of its conversion.
        checkpoint: the file to compare with; by default the repo's own tensors.

    Raises:
        LayoutError: if the file does not hold the repo's tensors.
        VerificationError: if the outputs differ.
        ValueError: if the report does not fit the repo.
    """
    content, _ = encoder_checkpoint(folder, report)
    own = _recognised(as_checkpoint(folder, report, content), report, _stated(folder))
    source = own if checkpoint is None else _same(folder, own, checkpoint, report)
    tensors = {name: source.tensors[name].to(own.tensors[name].dtype) for name in own.tensors}
    return verify_encoder(folder, own.plan.inputs, encoder_outputs(own.plan, tensors))


def _same(folder: Path, own: EncoderSource, checkpoint: Path, report: ConversionReport) -> EncoderSource:
    """The weights of a file, which must be the repo's but for their precision."""
    source = _recognised(open_checkpoint(checkpoint), report)
    if missing := own.tensors.keys() - source.tensors.keys():
        raise LayoutError(f"{checkpoint}: has no {min(missing)!r}, which {folder} has; it is not its source")
    check_values(checkpoint, source.tensors)
    for name, tensor in own.tensors.items():
        given = source.tensors[name]
        if given.shape != tensor.shape or not torch.equal(given.to(tensor.dtype), tensor):
            raise LayoutError(
                f"{checkpoint}: {source.source_keys[name]!r} is not what {folder} holds; it is not its source"
            )
    return source


def _stated(folder: Path) -> dict[str, object]:
    """What the file may have stated of its network, and no tensor and no option tells: the rectangle of its images."""
    size = getattr(installed_config(folder), "image_size", None)
    return {} if size is None else {"image_size": size}


def _recognised(
    checkpoint: Checkpoint, report: ConversionReport, stated: dict[str, object] | None = None
) -> EncoderSource:
    family = ENCODERS[report["source"]["layout"]]
    chosen = _chosen(checkpoint, report, family.name)
    chosen = replace(chosen, metadata=chosen.metadata | (stated or {}))
    found = ENCODERS.get(chosen.network.family)  # a family may have names of another one, as RoBERTa those of BERT
    options = EncoderOptions.from_report(report.get("options", {}))
    source = recognise_encoder(chosen, found, replace(options, layout=family.name)) if found else None
    if source is None or source.family is not family:
        raise LayoutError(f"{checkpoint.path}: holds no {family.label}, which the repo was converted from")
    return source


def _chosen(checkpoint: Checkpoint, report: ConversionReport, family: str) -> ChosenWeights:
    """The weights that were converted; of another file with the same weights, those that it would convert."""
    taken = report["source"].get("weights")
    path, ignored = (taken["path"], tuple(taken["ignored"])) if taken else (None, ())
    try:
        return choose(checkpoint, FAMILIES, WeightsWanted(path, ignored), [family], ENCODERS)
    except NoSuchWeightsError:
        return choose(checkpoint, FAMILIES, WeightsWanted(ignore=ignored), [family], ENCODERS)
