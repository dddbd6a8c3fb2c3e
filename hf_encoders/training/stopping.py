"""What asks a run to stop or to save: signals, and the end of its launcher."""

import os
import signal
from types import FrameType
from typing import Literal

import torch
from accelerate import Accelerator

from .resume_command import launcher_of_this_process

Request = Literal["stop", "save"]


def outlive_a_stop(number: int) -> None:
    """For a `DataLoader`'s `worker_init_fn`: a worker outlives the signal that stops its run.

    A scheduler, or Ctrl-C, sends it to the whole group of processes, and the step that is being taken needs its rows.
    A second one ends the worker.
    """
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, _end_at_the_next)


def _end_at_the_next(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


class Requests:
    """Notices what asks a run to stop or to save, on any of its processes.

    SIGTERM and SIGINT stop it after its step, with a checkpoint; a second one kills it. SIGUSR1, which Slurm sends as a
    warning (`--signal=USR1@60`), makes a checkpoint, and the run goes on. The end of the launcher stops it too: that of
    `accelerate launch` with one process does not pass on the SIGTERM of a scheduler. A run without a launcher, or one
    that a shell put into the background, has none that could end.

    Args:
        accelerator: the processes of the run.
    """

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self._stop = self._save = False
        self._launcher = launcher_of_this_process()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._notice_stop)
        if hasattr(signal, "SIGUSR1"):  # Windows has none
            signal.signal(signal.SIGUSR1, self._notice_save)

    def read(self) -> Request | None:
        """What any process was asked for since the last call; all processes call this together."""
        if self._launcher is not None and os.getppid() != self._launcher:
            self._stop = True
        asked = torch.tensor([int(self._stop), int(self._save)], device=self._accelerator.device)
        self._save = False
        stop, save = self._accelerator.reduce(asked, reduction="sum").tolist()
        return "stop" if stop else "save" if save else None

    def _notice_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = True
        signal.signal(number, signal.SIG_DFL)

    def _notice_save(self, number: int, frame: FrameType | None) -> None:
        self._save = True
