"""Resumes a legacy run from the AdamW state that `hf-encoders convert --with-training-state` wrote."""

import warnings

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ..checkpoints import Progress
from ..legacy_state import load_moments


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
    info = load_moments(folder, model, optimizer)
    progress = Progress(epoch=info["epoch"] or 0, step=info["global_step"] or 0)
    with warnings.catch_warnings():  # the schedule runs ahead of its optimizer
        warnings.simplefilter("ignore")
        for _ in range(progress.step):
            schedule.step()
    return progress
