"""The processes that a launcher started, on accelerators or CPUs."""

from typing import Any

import torch
from accelerate import PartialState


def launched_processes(device: str | None = None, **options: Any) -> PartialState:
    """The processes of `accelerate launch` or torchrun; one, if there was no launcher.

    Args:
        device: where they compute, if not on the accelerators that there are.
        options: of `torch.distributed.init_process_group`.
    """
    # Without being told, Accelerate takes those on CPUs for strangers, each of which would do all the work.
    return PartialState(cpu=device == "cpu" or not torch.accelerator.is_available(), **options)
