"""The micro-batches of each step of an epoch, the same whether the epoch is new or resumed."""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from accelerate import skip_first_batches
from torch.utils.data import DataLoader

Batch = TypeVar("Batch")


def steps_of_epoch(loader: DataLoader[Any], epoch: int, skipped: int, per_step: int) -> Iterator[list[Any]]:
    """Yield the micro-batches of each step that is left; an incomplete last step is left out.

    Args:
        loader: of this process, prepared by Accelerate or not.
        epoch: number of the epoch.
        skipped: batches of the epoch that the run has used already.
        per_step: micro-batches per step.
    """
    if skipped:
        loader = skip_first_batches(loader, skipped)
    # After skipping, because a loader that skips begins with an epoch of its own. The data set too, because Accelerate
    # passes the epoch on to it only where there is one process.
    for part in (loader, loader.dataset):
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
    batches = iter(loader)
    micro_batches: list[Any] = []
    while (batch := _next(batches)) is not None:
        micro_batches.append(batch)
        if len(micro_batches) == per_step:
            yield micro_batches
            micro_batches = []


def _next(batches: Iterator[Batch]) -> Batch | None:
    """The next batch, drawn without a change of the random state: loaders draw numbers when they begin.

    A resumed run begins elsewhere, so those numbers must not count.
    """
    with torch.random.fork_rng(devices=[]):
        return next(batches, None)
