"""Decisions from epoch to epoch: the learning rate, and whether to stop."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from ..checkpoints import Progress
from .arguments import DepthRunArguments


def epoch_schedule(optimizer: Optimizer, run: DepthRunArguments) -> LRScheduler:
    """The schedule that the options name. It takes one step per epoch; "plateau" takes the validation loss with it."""
    epochs, factor = run.schedule_epochs, run.schedule_factor
    if run.lr_schedule == "step":
        return StepLR(optimizer, epochs or 20, factor)
    if run.lr_schedule == "cosine":
        return CosineAnnealingLR(optimizer, run.epochs)
    if run.lr_schedule == "plateau":
        return ReduceLROnPlateau(optimizer, factor=factor, patience=epochs or 10)
    if run.lr_schedule == "warm_restarts":
        return CosineAnnealingWarmRestarts(optimizer, epochs or 20)
    return StepLR(optimizer, run.epochs, gamma=1.0)  # constant


def is_stale(progress: Progress, patience: int) -> bool:
    """Whether `patience` epochs in a row brought no better validation loss (0: never)."""
    return 0 < patience <= progress.epoch - progress.best_epoch
