"""Decisions from epoch to epoch: the learning rate, and whether to stop."""

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from .arguments import DepthRunArguments

_PLATEAU = "plateau"


def epoch_schedule(optimizer: Optimizer, run: DepthRunArguments) -> LRScheduler:
    """The schedule that the options name. It takes one step per epoch; "plateau" takes the validation loss with it."""
    epochs, factor = run.schedule_epochs, run.schedule_factor
    if run.lr_schedule == "step":
        return StepLR(optimizer, epochs or 20, factor)
    if run.lr_schedule == "cosine":
        return CosineAnnealingLR(optimizer, run.epochs)
    if run.lr_schedule == _PLATEAU:
        return ReduceLROnPlateau(optimizer, factor=factor, patience=epochs or 10)
    if run.lr_schedule == "warm_restarts":
        return CosineAnnealingWarmRestarts(optimizer, epochs or 20)
    return StepLR(optimizer, run.epochs, gamma=1.0)  # constant


def reset_rates(
    optimizer: Optimizer, schedule: LRScheduler, run: DepthRunArguments, kept: DepthRunArguments | None, epochs: int
) -> LRScheduler:
    """Give an optimizer that a checkpoint was loaded into the learning rate and the decay of the options.

    The rate is the one that the schedule of the options has after so many epochs. What "plateau" has done depends on
    the losses, so its drops stay, and are of the new rate.

    Args:
        optimizer: it is changed in place.
        schedule: of the checkpoint, over the optimizer.
        run: the options.
        kept: the options of the checkpoint, if they are known.
        epochs: that are finished.

    Returns:
        The schedule from here on.
    """
    for group in optimizer.param_groups:
        group["weight_decay"] = run.weight_decay
    if run.lr_schedule == _PLATEAU and isinstance(schedule, ReduceLROnPlateau):
        if kept is None or kept.lr_schedule == _PLATEAU:
            for group in optimizer.param_groups:
                group["lr"] *= run.learning_rate / kept.learning_rate if kept is not None else 1
            schedule.factor, schedule.patience = run.schedule_factor, run.schedule_epochs or 10
            return schedule
    _start(optimizer, run.learning_rate)
    schedule = epoch_schedule(optimizer, run)
    if run.lr_schedule != _PLATEAU:
        ahead = torch.optim.SGD([torch.zeros(1)], run.learning_rate)  # it runs ahead: schedules step beside optimizers
        ahead_schedule = epoch_schedule(ahead, run)
        for _ in range(epochs):
            ahead.step()
            ahead_schedule.step()
        schedule.load_state_dict(ahead_schedule.state_dict())
        for group in optimizer.param_groups:
            group["lr"] = ahead.param_groups[0]["lr"]
    return schedule


def _start(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = rate
