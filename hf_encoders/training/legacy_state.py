"""The AdamW state that `hf-encoders convert --with-training-state` wrote, for both kinds of runs that go on from it."""

from pathlib import Path

import torch
from torch import nn

from ..conversion.training_state import TRAINING_JSON, read_training_state
from ..hub.reports import TrainingInfo


def has_legacy_state(folder: str) -> bool:
    """Whether a folder is a converted repo with its training state."""
    return (Path(folder) / TRAINING_JSON).is_file()


def check_weights(folder: str, init_from: str) -> None:
    """Refuse to go on from a converted repo with other weights than its own, which the moments are of.

    Args:
        folder: the converted repo.
        init_from: where the weights of the run come from.

    Raises:
        ValueError: if they come from elsewhere.
    """
    if not init_from or Path(init_from).resolve() != Path(folder).resolve():
        raise ValueError(f"{folder}: its training state is of its own weights; give --init_from {folder} too")


def load_moments(folder: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingInfo:
    """Load AdamW's moments and steps into an optimizer, by the names of the parameters.

    Args:
        folder: the converted repo.
        model: a model with the repo's weights.
        optimizer: over the model's parameters, in any order and groups; the settings of the groups stay.

    Returns:
        What the repo says of the optimizer and of the progress of the run.

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
    return info
