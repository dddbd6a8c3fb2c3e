"""What is checked before the first step, so that no time is spent on a run that must fail."""

import difflib
import shutil
import warnings
from collections.abc import Collection
from pathlib import Path

import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from torch import nn

from ..models.tower import not_finite_weight
from .shared_arguments import AUTO, NONE

TENSORBOARD = "tensorboard"
_MOMENTS = 2  # AdamW keeps the means of gradients and of their squares, in float32
_FLOAT32 = 4


def check_finite(model: nn.Module, source: object, hint: str) -> None:
    """Refuse weights that are no numbers.

    Args:
        model: what is trained.
        source: where the weights are from, which the message begins with.
        hint: what to do about it.

    Raises:
        ValueError: naming the first tensor that holds NaN or infinity.
    """
    if name := not_finite_weight(model):
        raise ValueError(f"{source}: {name} holds NaN or infinity; {hint}")


def chosen_tracker(report_to: str) -> str | None:
    """The tracker that a run logs to; None for none.

    Raises:
        ValueError: if there is no such tracker, or it is asked for and not installed.
    """
    installed = [str(name) for name in get_available_trackers()]
    if report_to == NONE or report_to in installed:
        return None if report_to == NONE else report_to
    if report_to == AUTO:
        return TENSORBOARD if TENSORBOARD in installed else None
    known = list(map(str, LOGGER_TYPE_TO_CLASS))
    if report_to not in known:
        raise ValueError(f"--report_to {report_to}: no such tracker; it is {', '.join([AUTO, NONE, *known])}")
    raise ValueError(f"--report_to {report_to}: is not installed; pip install {report_to}, or give --report_to {NONE}")


def check_metric(name: str, known: Collection[str]) -> None:
    """Refuse the name of a metric that the validation does not give.

    Raises:
        ValueError: naming the most similar ones, or all where none is similar.
    """
    if name in known:
        return
    similar = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(similar)}?" if similar else f"there are {', '.join(known) or 'none'}"
    raise ValueError(f"--validation_metric {name}: the validation of this run gives no such metric; {hint}")


def checkpoint_size(model: nn.Module, *others: nn.Module | None) -> int:
    """The bytes of a checkpoint: weights, averaged weights, and what AdamW keeps of each weight that is trained."""
    tensors = [tensor for module in (model, *others) if module is not None for tensor in module.state_dict().values()]
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return sum(map(_bytes, tensors)) + _MOMENTS * _FLOAT32 * trained


def check_room(output_dir: Path, checkpoints: Path, size: int, model: nn.Module, count: int) -> None:
    """Compare a run's checkpoints and its model with the room on the disk.

    Args:
        output_dir: of the run; it need not exist.
        checkpoints: where they are; what is there already is replaced.
        size: of a checkpoint.
        model: what is saved beside the checkpoints.
        count: how many checkpoints are there at a time, the one that is being written among them.

    Raises:
        ValueError: if there is no room for a checkpoint and the model.
    """
    place = next(folder for folder in (output_dir, *output_dir.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    needed = size + sum(map(_bytes, model.state_dict().values()))
    if free < needed:
        raise ValueError(
            f"{output_dir}: a checkpoint takes {_mb(size)} and the model {_mb(needed - size)}, and {_mb(free)} are free"
            " there; make room, or choose another --output_dir"
        )
    present = sum(file.stat().st_size for file in checkpoints.rglob("*") if file.is_file())
    if free + present < needed + (count - 1) * size:
        warnings.warn(
            f"{output_dir}: {count} checkpoints of {_mb(size)} do not fit into the {_mb(free)} that are free there:"
            " lower --keep_last, make room, or choose another --output_dir",
            stacklevel=2,
        )


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
