"""The micro-batches of each step of an epoch, the same whether the epoch is new or resumed."""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any, TypeVar

import torch
from accelerate import skip_first_batches
from torch.utils.data import DataLoader

from .checkpoints import Progress

Batch = TypeVar("Batch")


def steps_of_epoch(loaders: Sequence[DataLoader[Any]], epoch: int, skipped: int, per_step: int) -> Iterator[list[Any]]:
    """Yield the micro-batches of each step that is left; an incomplete last step is left out.

    Args:
        loaders: of this process, prepared by Accelerate or not; several, each of a part of a stream, are read in turns.
        epoch: number of the epoch.
        skipped: batches of the epoch that the run has used already.
        per_step: micro-batches per step.
    """
    parts = []
    for loader in loaders:
        if skipped:
            loader = skip_first_batches(loader, skipped // len(loaders))
        # After skipping, because a loader that skips begins with an epoch of its own. The data set too, because
        # Accelerate passes the epoch on to it only where there is one process.
        for part in (loader, loader.dataset):
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)
        parts.append(iter(loader))
    micro_batches: list[Any] = []
    for batches in cycle(parts):
        if (batch := _next(batches)) is None:
            return
        micro_batches.append(batch)
        if len(micro_batches) == per_step:
            yield micro_batches
            micro_batches = []


def steps_in_all(progress: Progress, batches: int, per_step: int, epochs: int) -> int:
    """The step at which a run ends: those that it has taken, and those of what is left of its epochs.

    Args:
        progress: where the run is.
        batches: of an epoch, per process.
        per_step: micro-batches per step.
        epochs: of the run.
    """
    left = epochs - progress.epoch
    if left <= 0:
        return progress.step
    of_this_epoch = max(batches - progress.batches, 0) // per_step
    return progress.step + of_this_epoch + (left - 1) * (batches // per_step)


def why_finished(progress: Progress, total_steps: int, metric: str) -> str:
    """Why a run has nothing left to do, and what gives it more."""
    if progress.step >= total_steps:
        return f"all {progress.step} steps are taken; more with --epochs or --max_steps"
    return f"{metric} got no better; more with --patience"


def is_stale(progress: Progress, patience: int) -> bool:
    """Whether `patience` epochs in a row brought no better validation (0: never)."""
    return 0 < patience <= progress.epoch - progress.best_epoch


def _next(batches: Iterator[Batch]) -> Batch | None:
    """The next batch, drawn without a change of the random state: loaders draw numbers when they begin.

    A resumed run begins elsewhere, so those numbers must not count.
    """
    with torch.random.fork_rng(devices=[]):
        return next(batches, None)
