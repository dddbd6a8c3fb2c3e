"""Goes on where a legacy run stopped: the AdamW state that `hf-encoders convert --with-training-state` wrote."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...conversion.training_state import TRAINING_JSON, read_training_state
from ..checkpoints import Progress


def has_legacy_state(folder: str) -> bool:
    """Whether a folder is a converted repo with its training state."""
    return (Path(folder) / TRAINING_JSON).is_file()


def load_legacy_state(folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any) -> Progress:
    """Put AdamW's moments and steps into an optimizer, parameter by parameter, by name.

    Args:
        folder: the converted repo.
        model: whose weights are the repo's.
        optimizer: over the model's parameters, in any order and groups; its learning rates and decay stay.
        schedule: of the learning rates; it goes forward to the step.

    Returns:
        The step and epoch that the legacy run had finished.

    Raises:
        ValueError: if a parameter that is trained has no state, or a state no parameter that is trained.
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
            raise ValueError(f"{folder}: its training state is also of {name}, which is not trained here")
    for name, parameter in parameters.items():
        if parameter in trained and name not in states:
            raise ValueError(
                f"{folder}: its training state has nothing of {name}; freeze it, or start without the state"
            )
    for name, state in states.items():
        parameter = parameters[name]
        moments = {kind: tensor.to(parameter) for kind, tensor in state.items() if kind != "step"}
        optimizer.state[parameter] = {"step": state["step"].float(), **moments}
    progress = Progress(epoch=info["epoch"] or 0, step=info["global_step"] or 0)
    with warnings.catch_warnings():  # of a schedule that is ahead of its optimizer
        warnings.simplefilter("ignore")
        for _ in range(progress.step):
            schedule.step()
    return progress
