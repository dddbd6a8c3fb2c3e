"""What ends a run, or asks it to save: signals, the end of its launcher, and the loss of one of its processes."""

import os
import signal
from types import FrameType
from typing import Literal, Protocol

import torch
from accelerate import Accelerator
from torch.distributed import DistError

from .checkpoints import Progress
from .resume_command import launcher_of_this_process, resume_command

Request = Literal["stop", "save"]
_GLOO = "gloo"  # its errors have no class of their own, and name its files


class ProcessLostError(ConnectionError):
    """Another process of a run does not answer: it was killed, or its machine or the network between is gone."""


class Run(Protocol):
    """What trains."""

    progress: Progress

    def train(self) -> None:
        """Run to the end."""


def train_together(run: Run) -> None:
    """Train, and say how to go on where another process of the run is lost.

    Gloo, on CPUs, knows at once of a process that ended, and of a machine or a network that is gone after
    `accelerator.ANSWER`. NCCL, on GPUs, ends this process after that time by itself, with messages of its own.

    Args:
        run: its `train` is called.

    Raises:
        ProcessLostError: if one is.
    """
    try:
        run.train()
    except RuntimeError as error:
        if not isinstance(error, DistError) and _GLOO not in str(error):
            raise
        raise ProcessLostError(
            f"after step {run.progress.step}: another process of this run is lost: it was killed, its machine or the"
            " network is gone, or it ended with an error that it printed; the checkpoints are whole, and each machine's"
            f" own command goes on from the last one: {resume_command()}"
        ) from error


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
