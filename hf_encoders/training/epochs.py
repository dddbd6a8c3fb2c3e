"""The micro-batches of each step of an epoch, the same whether the epoch begins here or was interrupted."""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import skip_first_batches


def steps_of_epoch(loader: Any, epoch: int, skipped: int, per_step: int) -> Iterator[list[dict[str, Any]]]:
    """The micro-batches of the steps that are left; a last incomplete step is left out.

    Args:
        loader: of the process, prepared by Accelerate or not.
        epoch: which one this is.
        skipped: batches that the run has taken of it already.
        per_step: micro-batches of a step.
    """
    if skipped:
        loader = skip_first_batches(loader, skipped)
    # The last of all: a loader that skips begins with an epoch of its own. And Accelerate tells the data set only
    # where there is one process.
    for told in (loader, loader.dataset):
        if hasattr(told, "set_epoch"):
            told.set_epoch(epoch)
    batches = iter(loader)
    micro_batches: list[dict[str, Any]] = []
    while (batch := _next(batches)) is not None:
        micro_batches.append(batch)
        if len(micro_batches) == per_step:
            yield micro_batches
            micro_batches = []


def _next(batches: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    """The next batch. Loaders draw random numbers as they begin, and a resumed run begins elsewhere: none may count."""
    with torch.random.fork_rng(devices=[]):
        return next(batches, None)
