"""The processes that a launcher started, on accelerators or CPUs."""

from typing import Any

import torch
from accelerate import PartialState


def on_cpus(device: str | None = None) -> bool:
    """What Accelerate must be told as `cpu`.

    It finds accelerators by itself; without being told, it takes processes on CPUs for strangers, each of which would
    do all the work.

    Args:
        device: where they compute, if not on the accelerators that there are.
    """
    return device == "cpu" or not torch.accelerator.is_available()


def launched_processes(device: str | None = None, **options: Any) -> PartialState:
    """The processes of `accelerate launch` or torchrun; one, if there was no launcher.

    Args:
        device: as for `on_cpus`.
        options: of `torch.distributed.init_process_group`.
    """
    return PartialState(cpu=on_cpus(device), **options)
