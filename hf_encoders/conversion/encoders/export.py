"""A converted encoder → the tensors of its file, under their old names."""

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from ...checkpoints.checkpoint import Checkpoint
from ...hub.reports import ConversionReport
from ...models.repo_code import installed_config
from ..families.moves import STEPS, Move, undo


def is_encoder(report: ConversionReport) -> bool:
    """Whether a report is of an encoder of another family, with the way back to its file."""
    return "moved" in report


def encoder_checkpoint(folder: Path, report: ConversionReport) -> tuple[dict[str, object], list[str]]:
    """Make the dictionary that held an encoder's tensors, with the numbers that the repo has now.

    Args:
        folder: a converted repo; one that was trained further and saved again with its report too.
        report: of its conversion.

    Returns:
        The content of the file, with tensors of the repo's precision, and notes for a person.

    Raises:
        ValueError: if the report does not fit the model.
    """
    moves = [Move(tuple(m["from"]), tuple(m["to"]), m["by"], tuple(m["shape"])) for m in report["moved"]]
    if unknown := {move.by for move in moves} - set(STEPS):
        raise ValueError(f"{folder}: its report names a step {min(unknown)!r}, of a newer release; update hf_encoders")
    present = _state_dict(folder)
    lacking = [name for move in moves if move.sources for name in move.targets if name not in present]
    if lacking:
        raise ValueError(f"{folder}: lacks {lacking[0]!r}, which its report names; convert the checkpoint again")
    tensors: dict[str, object] = {name: tensor.contiguous() for name, tensor in undo(moves, present).items()}
    content = tensors
    for key in reversed(report["container"]):
        content = {key: content}
    return content, _notes(report.get("dropped", ()))


def as_checkpoint(folder: Path, report: ConversionReport, content: dict[str, object]) -> Checkpoint:
    """Such a dictionary as an opened file, to be recognised again, with what the file said beside its weights."""
    source = report["source"]
    content = {**source.get("metadata", {}), **content}
    return Checkpoint(folder, "converted repo", content, tuple(source.get("classes", ())))


def _state_dict(folder: Path) -> dict[str, Tensor]:
    architectures = installed_config(folder).architectures
    kind = getattr(transformers, architectures[0] if architectures else "", None)
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise ValueError(f"{folder}: its config.json names no class of transformers")
    with torch.inference_mode():
        return kind.from_pretrained(folder).state_dict()


def _notes(dropped: Sequence[str]) -> list[str]:
    if not dropped:
        return []
    more = f" and {len(dropped) - 3} more" if len(dropped) > 3 else ""
    return [f"missing: {', '.join(dropped[:3])}{more}, which the conversion did not keep"]
