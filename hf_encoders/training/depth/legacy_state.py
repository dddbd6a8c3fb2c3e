"""Resumes a legacy depth run from the AdamW state that `hf-encoders convert --with-training-state` wrote."""

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from ...conversion.training_state import optimizer_groups
from ...plurals import counted
from ..checkpoints import Progress
from ..legacy_state import load_moments
from .arguments import DepthRunArguments
from .schedule import reset_rates

# What the options of a run do not say: the file's own values stay.
_OF_THE_FILE = ("eps", "amsgrad")


def load_legacy_state(
    folder: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    run: DepthRunArguments,
) -> tuple[Progress, LRScheduler]:
    """Load AdamW's moments and steps into an optimizer, by the names of the parameters.

    The learning rate is the one that the schedule of the options has after the epochs of the legacy run. Drops of
    "plateau" depend on its losses: there the rate is the legacy run's.

    Args:
        folder: the converted repo.
        model: an autoencoder with the repo's weights.
        optimizer: over the model's parameters, in one group.
        schedule: over the optimizer.
        run: the options.

    Returns:
        The step and epoch that the legacy run had finished, and the schedule from here on. The best validation loss
        is not taken over: it is of other data.

    Raises:
        ValueError: if a parameter has no state, a state belongs to no parameter, the legacy optimizer had several
            groups of parameters, or no epoch is left.
    """
    info = load_moments(folder, model, optimizer)
    groups = optimizer_groups(info)
    if len(groups) > 1:
        raise ValueError(f"{folder}: its optimizer has {len(groups)} groups of parameters, and this run has one")
    settings = {name: groups[0].settings[name] for name in _OF_THE_FILE if name in groups[0].settings}
    for group in optimizer.param_groups:
        group.update(settings, betas=groups[0].betas, lr=groups[0].settings["lr"])
    epoch = info.get("finished_epochs", 0)
    if epoch >= run.epochs:
        raise ValueError(f"{folder}: its run had finished {counted(epoch, 'epoch')}; give --epochs more than that")
    schedule = reset_rates(optimizer, schedule, run, None, epoch)
    return Progress(epoch=epoch, step=info["global_step"] or 0, best_epoch=epoch), schedule
