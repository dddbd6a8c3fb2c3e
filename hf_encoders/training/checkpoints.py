"""Checkpoints from which a run resumes exactly: written whole or not at all; old ones are removed."""

import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from torch import nn

from ..models.input_errors import one_line
from ..outputs import partial_path, put_in_place, remove_stale
from .sharding import load_whole_state, whole_state

_PROGRESS, _PROCESSES = "progress.json", "processes"
_PREFIX = "checkpoint-"


@dataclass
class Progress:
    """How far a run has come.

    Args:
        epoch: epochs that are finished.
        batches: batches of the epoch after those that each process has used.
        step: optimizer steps.
        best: the best value of the validation metric.
        best_step: the step that it was measured after.
        best_metrics: all metrics of that step.
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
        modules: name → module that the accelerator does not hold: averaged weights, a loss with parameters.
        keep_last: how many checkpoints stay (0: all).
    """
    folder = output_dir / f"{_PREFIX}{progress.step}"
    partial = _made_by_the_first(accelerator, folder)
    accelerator.save_state(str(partial))
    states = {name: whole_state(module) for name, module in (modules or {}).items()}
    accelerator.wait_for_everyone()  # each process writes its random states
    if accelerator.is_main_process:
        for name, state in states.items():
            # safetensors takes neither tensors that share memory nor those in another order.
            tensors = {key: tensor.cpu().clone(memory_format=torch.contiguous_format) for key, tensor in state.items()}
            save_file(tensors, partial / f"{name}.safetensors")
        content = asdict(progress) | {_PROCESSES: accelerator.num_processes}
        (partial / _PROGRESS).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        put_in_place(partial, folder)
        for old in _checkpoints(output_dir)[:-keep_last] if keep_last else []:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return folder


def restore(accelerator: Accelerator, folder: Path, modules: Mapping[str, nn.Module] | None = None) -> Progress:
    """Restore models, optimizers, schedules, random states and modules.

    Raises:
        ValueError: if the checkpoint is damaged, or of another model or number of processes.
    """
    progress, processes = _read_progress(folder)
    if processes != accelerator.num_processes:  # Accelerate would go on without the random states
        raise ValueError(
            f"{folder}: written by {processes} processes, this run has {accelerator.num_processes}; start as many"
        )
    try:
        accelerator.load_state(str(folder))
        for name, module in (modules or {}).items():
            load_whole_state(module, load_file(folder / f"{name}.safetensors"))
    except Exception as error:  # every part has errors of its own
        raise _other_checkpoint(folder, error) from error
    return progress


def find(output_dir: Path, wanted: str) -> Path:
    """Find the latest checkpoint, or the one that is named.

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
    """Refuse to start a new run among the checkpoints of an old one.

    Raises:
        ValueError: if there are any.
    """
    if _checkpoints(output_dir):
        raise ValueError(
            f"{output_dir}: holds the checkpoints of a run; give --resume_from_checkpoint latest, or another"
            " --output_dir"
        )


class StopRequest:
    """Notices SIGTERM and SIGINT, so that a run ends after its step with a checkpoint; a second signal kills it."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self._noticed = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._notice)

    def __bool__(self) -> bool:
        """Whether any process was asked to stop; all processes call this together."""
        noticed = torch.tensor(int(self._noticed), device=self._accelerator.device)
        return bool(self._accelerator.reduce(noticed, reduction="sum").item())

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self._noticed = True
        signal.signal(number, signal.SIG_DFL)


def _read_progress(folder: Path) -> tuple[Progress, int]:
    """Where the run was, and the number of its processes."""
    try:
        content = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
        processes = content.pop(_PROCESSES)
        return Progress(**content), processes
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _other_checkpoint(folder, error) from error


def _other_checkpoint(folder: Path, error: Exception) -> ValueError:
    return ValueError(f"{folder}: no checkpoint of this run ({one_line(error)[:300]})")


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
    """The whole checkpoints, from the first to the last."""
    folders = [path for path in output_dir.glob(f"{_PREFIX}*") if (path / _PROGRESS).is_file()]
    return sorted(folders, key=lambda path: int(path.name.removeprefix(_PREFIX)))
