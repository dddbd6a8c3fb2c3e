"""The processes that a launcher started, on accelerators or CPUs."""

import torch
from accelerate import PartialState


def on_cpus(device: str | None = None) -> bool:
    """Whether the processes compute on CPUs, which Accelerate must be told as `cpu`.

    It finds accelerators by itself. Not told of CPUs, it does not join their processes, and each would do all the work.

    Args:
        device: "cpu" to leave the accelerators alone.
    """
    return device == "cpu" or not torch.accelerator.is_available()


def launched_processes(device: str | None = None, **options: object) -> PartialState:
    """The processes of `accelerate launch` or torchrun; a single one without a launcher.

    Args:
        device: as for `on_cpus`.
        options: for `torch.distributed.init_process_group`.
    """
    return PartialState(cpu=on_cpus(device), **options)
