"""What the training scripts share about processes: how they start, what they say, and the rows that none could read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from tqdm.auto import tqdm

from publishing import LOGS

_LISTED = 10  # rows that an error names


def make_accelerator(run: Any) -> Accelerator:
    """The processes of a run, its precision and its tracker.

    Args:
        run: options `mixed_precision`, `report_to`, `output_dir` and `seed`.
    """
    has_tracker = run.report_to in map(str, get_available_trackers())
    accelerator = Accelerator(
        # Without this, the processes that torchrun starts on CPUs do not find each other.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=run.mixed_precision,
        log_with=run.report_to if has_tracker else None,
        project_dir=str(Path(run.output_dir) / LOGS),
        # A schedule goes on when it is told to, whatever the number of processes.
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=run.seed),
        # A step may call the model twice, which broadcasts of BatchNorm's statistics in between would disturb.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if not has_tracker and run.report_to != "none":
        say(accelerator, f"{run.report_to} is not installed: nothing is logged to it")
    return accelerator


def say(accelerator: Accelerator, text: str) -> None:
    """Print once, beside a progress bar."""
    if accelerator.is_main_process:
        tqdm.write(text)


def count_bad(accelerator: Accelerator, known: list[str], found: Sequence[str], most: int) -> None:
    """Remember what was skipped on all processes; each epoch meets it again.

    Args:
        accelerator: the processes, each of which calls this.
        known: what was skipped before; it grows.
        found: what this process skipped now.
        most: how many may be skipped.

    Raises:
        ValueError: if there are more.
    """
    new = sorted(set(gather_object(list(found))) - set(known))
    known += new
    for text in new[:_LISTED]:
        say(accelerator, f"skipped {text}")
    if len(known) > most:
        listed = "; ".join(known[:_LISTED])
        raise ValueError(f"{len(known)} rows cannot be read, more than --max_bad_samples allows: {listed}")
