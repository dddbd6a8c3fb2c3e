"""Resumes a legacy run from the AdamW state that `hf-encoders convert --with-training-state` wrote."""

import warnings
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ...conversion.training_state import TRAINING_JSON, read_training_state
from ..checkpoints import Progress


def has_legacy_state(folder: str) -> bool:
    """Whether a folder is a converted repo with its training state."""
    return (Path(folder) / TRAINING_JSON).is_file()


def load_legacy_state(
    folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> Progress:
    """Load AdamW's moments and steps into an optimizer, by the names of the parameters.

    Args:
        folder: the converted repo.
        model: a model with the repo's weights.
        optimizer: over the model's parameters, in any order and groups; its learning rates and decay stay.
        schedule: of the learning rates; it moves forward to the step.

    Returns:
        The step and epoch that the legacy run had finished.

    Raises:
        ValueError: if a trained parameter has no state, or a state belongs to no trained parameter.
    """
    tensors, info = read_training_state(Path(folder))
    parameters = dict(model.named_parameters())
    trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    states: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, kind = key.rpartition(".")
        states.setdefault(name, {})[kind] = tensor
    for name in states:
        if name not in parameters or parameters[name] not in trained:
            raise ValueError(f"{folder}: its training state includes {name}, which is not trained here")
    for name, parameter in parameters.items():
        if parameter in trained and name not in states:
            raise ValueError(f"{folder}: its training state lacks {name}; freeze it, or start without the state")
    for name, state in states.items():
        parameter = parameters[name]
        moments = {kind: tensor.to(parameter) for kind, tensor in state.items() if kind != "step"}
        optimizer.state[parameter] = {"step": state["step"].float(), **moments}
    progress = Progress(epoch=info["epoch"] or 0, step=info["global_step"] or 0)
    with warnings.catch_warnings():  # the schedule runs ahead of its optimizer
        warnings.simplefilter("ignore")
        for _ in range(progress.step):
            schedule.step()
    return progress
