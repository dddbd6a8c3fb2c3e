"""Checkpoints that a run goes on from exactly: written whole or not at all, the old ones removed."""

import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import nn

from ..outputs import partial_path, put_in_place, remove_stale
from .sharding import load_whole_state, whole_state

_PROGRESS = "progress.json"
_PREFIX = "checkpoint-"


@dataclass
class Progress:
    """Where a run is.

    Args:
        epoch: epochs that are finished.
        batches: batches of a process that are used up in the epoch after those.
        step: optimizer steps.
        best: the best value of the validation metric, and
        best_step: its step, and
        best_epoch: how many epochs were finished then.
        bad_samples: rows that were skipped, with the reason.
    """

    epoch: int = 0
    batches: int = 0
    step: int = 0
    best: float | None = None
    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    bad_samples: list[str] = field(default_factory=list)


def save(
    accelerator: Accelerator,
    output_dir: Path,
    progress: Progress,
    modules: Mapping[str, nn.Module] | None = None,
    keep_last: int = 2,
) -> Path:
    """Write `checkpoint-STEP`; every process calls this.

    A kill leaves the checkpoints before it, and a hidden folder that the next call on the same machine removes.

    Args:
        accelerator: holds the model, the optimizer and the schedule.
        output_dir: where the checkpoints are.
        progress: where the run is.
        modules: by name, what the accelerator does not hold: averaged weights, a loss with parameters.
        keep_last: so many checkpoints stay (0: all).
    """
    folder = output_dir / f"{_PREFIX}{progress.step}"
    partial = _made_by_the_first(accelerator, folder)
    accelerator.save_state(str(partial))
    states = {name: whole_state(module) for name, module in (modules or {}).items()}
    accelerator.wait_for_everyone()  # each process writes its random states
    if accelerator.is_main_process:
        for name, state in states.items():
            # Clones: tensors that share memory, or lie in another order, are not for safetensors.
            tensors = {key: tensor.cpu().clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
            save_file(tensors, partial / f"{name}.safetensors")
        (partial / _PROGRESS).write_text(json.dumps(asdict(progress), indent=2) + "\n", encoding="utf-8")
        put_in_place(partial, folder)
        for old in _checkpoints(output_dir)[:-keep_last] if keep_last else []:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return folder


def restore(accelerator: Accelerator, folder: Path, modules: Mapping[str, nn.Module] | None = None) -> Progress:
    """Put models, optimizers, schedules, random states and modules back to what they were.

    Raises:
        ValueError: if the checkpoint is damaged, or of another model or number of processes.
    """
    processes = len(list(folder.glob("random_states_*.pkl")))
    if processes != accelerator.num_processes:  # Accelerate would go on without the random states
        raise ValueError(
            f"{folder}: written by {processes} processes, this run has {accelerator.num_processes}; start as many"
        )
    try:
        accelerator.load_state(str(folder))
        for name, module in (modules or {}).items():
            load_whole_state(module, load_file(folder / f"{name}.safetensors"))
        return Progress(**json.loads((folder / _PROGRESS).read_text(encoding="utf-8")))
    except Exception as error:  # every part has errors of its own
        raise ValueError(f"{folder}: no checkpoint of this run ({' '.join(str(error).split())[:300]})") from error


def find(output_dir: Path, wanted: str) -> Path:
    """The folder of the latest checkpoint, or of the one that is named.

    Raises:
        ValueError: if there is none.
    """
    if wanted != "latest":
        if not (Path(wanted) / _PROGRESS).is_file():
            raise ValueError(f"{wanted}: no checkpoint there (it has no {_PROGRESS})")
        return Path(wanted)
    found = _checkpoints(output_dir)
    if not found:
        raise ValueError(f"{output_dir}: no checkpoint there yet; leave --resume_from_checkpoint out")
    return found[-1]


def refuse_old(output_dir: Path) -> None:
    """Keep a new run apart from the checkpoints of an old one.

    Raises:
        ValueError: if there are any.
    """
    if _checkpoints(output_dir):
        raise ValueError(
            f"{output_dir}: holds the checkpoints of a run; give --resume_from_checkpoint latest, or another"
            " --output_dir"
        )


class StopRequest:
    """Notices SIGTERM and SIGINT, so that a run ends after its step with a last checkpoint; a second one kills it."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self._noticed = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._notice)

    def __bool__(self) -> bool:
        """Whether any process was asked to stop; all processes ask together."""
        noticed = torch.tensor(int(self._noticed), device=self._accelerator.device)
        return bool(self._accelerator.reduce(noticed, reduction="sum").item())

    def _notice(self, number: int, frame: FrameType | None) -> Any:
        self._noticed = True
        signal.signal(number, signal.SIG_DFL)


def _made_by_the_first(accelerator: Accelerator, folder: Path) -> Path:
    """The hidden folder that the main process makes for a checkpoint, and that all processes write into."""
    paths = [""]
    if accelerator.is_main_process:
        remove_stale(folder.parent, f"{_PREFIX}*")
        partial = partial_path(folder)
        partial.mkdir(parents=True)
        paths = [str(partial)]
    return Path(broadcast_object_list(paths)[0])


def _checkpoints(output_dir: Path) -> list[Path]:
    """From the first to the last; each is whole."""
    folders = [path for path in output_dir.glob(f"{_PREFIX}*") if (path / _PROGRESS).is_file()]
    return sorted(folders, key=lambda path: int(path.name.removeprefix(_PREFIX)))
