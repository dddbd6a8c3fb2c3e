"""Checkpoints from which a run resumes exactly: written whole or not at all; old ones are removed."""

import glob
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from safetensors.torch import load_file, save_file
from torch import nn

from ..models.input_errors import one_line
from ..outputs import (
    explained_writes,
    open_to_others,
    partial_path,
    put_in_place,
    remove_stale,
    remove_whole,
    set_aside,
)
from ..plurals import counted
from .division import Division, kept_division
from .run_lock import RunLock, wait_for_lock
from .sharding import kind_of, kind_of_files, load_whole_state, whole_state

FOLDER, LATEST = "checkpoints", "latest"
_PROGRESS, _PROCESSES, _PRECISION = "progress.json", "processes", "mixed_precision"
_OPTIONS, _IDENTITY, _DIVISION = "options", "identity", "division"
_PREFIX = "checkpoint-"
_SEEN_AFTER = 60.0  # seconds: a network file system remembers for a while that a file was not there


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
        best_epoch: the epoch that it was measured in, or at the end of, counted from 1.
        bad_samples: rows that were skipped, with the reason.
        ended_step: the last step after which the model was measured and saved, as at the end of an epoch.
    """

    epoch: int = 0
    batches: int = 0
    step: int = 0
    best: float | None = None
    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    bad_samples: list[str] = field(default_factory=list)
    ended_step: int = 0


@dataclass(frozen=True)
class Kept:
    """What a checkpoint keeps of the run that it is of.

    Args:
        progress: where the run was.
        processes: how many processes it had.
        division: of the rows of a step over them; None if an older version wrote it and does not tell.
        precision: that of its computations; None where the checkpoint does not say.
        options: its options by their names; None in a checkpoint of an older version.
        identity: what tells its data and its tokenizer from others; empty in a checkpoint of an older version.
    """

    progress: Progress
    processes: int
    precision: str | None = None
    options: dict[str, object] | None = None
    identity: dict[str, str] = field(default_factory=dict)
    division: Division | None = None


def save(
    accelerator: Accelerator,
    output_dir: Path,
    progress: Progress,
    modules: Mapping[str, nn.Module] | None = None,
    keep_last: int = 2,
    options: Mapping[str, object] | None = None,
    identity: Mapping[str, str] | None = None,
    division: Division | None = None,
) -> Path:
    """Write `checkpoint-STEP`; every process calls this.

    A kill leaves the checkpoints before it, and a hidden folder that the next run on the same machine removes.

    Args:
        accelerator: holds the model, the optimizer and the schedule.
        output_dir: where the checkpoints are.
        progress: where the run is.
        modules: name → module that the accelerator does not hold: averaged weights, a loss with parameters.
        keep_last: how many checkpoints stay (0: all).
        options: those of the run, see `resume_rules`.
        identity: see `Kept`.
        division: see `Kept`.

    Raises:
        OSError: if it cannot be written, as on a full disk; the checkpoints before it stay.
    """
    folder = output_dir / f"{_PREFIX}{progress.step}"
    partial = _made_by_the_first(accelerator, folder)
    with explained_writes(folder, partial):
        accelerator.save_state(str(partial))
        states = {name: whole_state(module) for name, module in (modules or {}).items()}
        accelerator.wait_for_everyone()  # each process writes its random states
        if accelerator.is_main_process:
            for name, state in states.items():
                save_file(_contiguous(state), partial / f"{name}.safetensors")
            of_the_run = {
                _PROCESSES: accelerator.num_processes,
                _PRECISION: accelerator.mixed_precision,
                _OPTIONS: None if options is None else dict(options),
                _IDENTITY: dict(identity or {}),
                _DIVISION: None if division is None else asdict(division),
            }
            content = asdict(progress) | of_the_run
            (partial / _PROGRESS).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            open_to_others(partial)
            put_in_place(partial, folder)
    if accelerator.is_main_process:
        for old in _checkpoints(output_dir)[:-keep_last] if keep_last else []:
            remove_whole(old)
    accelerator.wait_for_everyone()
    return folder


def _contiguous(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies as safetensors takes them: it takes neither tensors that share memory nor those in another order."""
    return {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def restore(accelerator: Accelerator, folder: Path, modules: Mapping[str, nn.Module] | None = None) -> Progress:
    """Restore models, optimizers, schedules, random states and modules.

    Raises:
        ValueError: if the checkpoint is damaged, or of another model, or its state does not fit these processes.
    """
    kept = _read_kept(folder)
    sharding, before = kind_of(accelerator), kind_of_files(folder)
    if sharding != before:
        raise ValueError(
            f"{folder}: written with {before}, and this run has {sharding}: start it with the configuration of"
            " accelerate launch that it began with"
        )
    if sharding == "DeepSpeed" and kept.processes != accelerator.num_processes:
        raise ValueError(
            f"{folder}: written by {counted(kept.processes, 'process')}, this run has {accelerator.num_processes}, and"
            " DeepSpeed keeps a part of the state for each: start as many (FSDP of version 2 goes on with others)"
        )
    try:
        accelerator.load_state(str(folder))
        for name, module in (modules or {}).items():
            load_whole_state(module, load_file(folder / f"{name}.safetensors"))
    except Exception as error:  # every part has errors of its own
        raise _other_checkpoint(folder, error) from error
    return kept.progress


def open_run(
    accelerator: Accelerator, output_dir: Path, wanted: str | None, is_elsewhere: bool = False
) -> tuple[RunLock | None, Path | None]:
    """Take a run's folder for this run, and find the checkpoint that it goes on from; every process calls this.

    What killed runs left there is removed.

    Args:
        accelerator: the processes of the run.
        output_dir: of the run; its checkpoints lie in `checkpoints/`.
        wanted: "latest", the path of a checkpoint, or None for a new run.
        is_elsewhere: whether `wanted` is no checkpoint of ours, and the caller goes on from it.

    Returns:
        The lock, on the main process: the run keeps it. The checkpoint, or None for a run that begins: a new one, or
        one that ended before its first checkpoint.

    Raises:
        ValueError: if another run writes there; if there is no checkpoint, or one that nobody asked for; if a machine
            does not see the folder.
    """
    folder, lock = output_dir / FOLDER, None
    places: list[str | None] = [None, None]
    if accelerator.is_main_process:
        has_begun = folder.is_dir()
        if not has_begun and wanted == LATEST:
            raise _no_checkpoint(folder)
        lock = RunLock(folder)
        remove_stale(folder, f"{_PREFIX}*")
        remove_stale(output_dir, glob.escape(output_dir.name))
        if wanted is None or is_elsewhere:
            refuse_old(folder)
        else:
            found = find(folder, wanted)
            places[0] = None if found is None else str(found)
        places[1] = lock.content
    place, content = broadcast_object_list(places)
    # The main process does not read it: it would give up the lock when it closes the file.
    sees = accelerator.is_main_process or wait_for_lock(folder, content, _SEEN_AFTER)
    blind = sorted({host for host, it_sees in gather_object([(platform.node(), sees)]) if not it_sees})
    if blind:
        raise ValueError(
            f"{folder}: {', '.join(blind)} does not see what the first process writes there, and all processes write"
            " and read a run's checkpoints: give an --output_dir that all machines share"
        )
    return lock, None if place is None else Path(place)


def find(output_dir: Path, wanted: str) -> Path | None:
    """Find the latest checkpoint, if there is one, or the one that is named.

    Raises:
        ValueError: if that is none.
    """
    if wanted != LATEST:
        if not (Path(wanted) / _PROGRESS).is_file():
            raise ValueError(f"{wanted}: no checkpoint there (it has no {_PROGRESS})")
        return Path(wanted)
    found = _checkpoints(output_dir)
    return found[-1] if found else None


def _no_checkpoint(folder: Path) -> ValueError:
    return ValueError(f"{folder}: no checkpoint there yet; leave --resume_from_checkpoint out")


def find_kept(output_dir: Path, wanted: str) -> Kept | None:
    """What is kept in the checkpoint that a run goes on from; None where there is none, or it cannot be read.

    A checkpoint that a killed run had set aside counts as if it were in place: `open_run` puts it there.
    """
    if not wanted:
        return None
    folder = output_dir / FOLDER if wanted == LATEST else Path(wanted).parent
    aside = set_aside(folder, f"{_PREFIX}*")
    try:
        if wanted == LATEST:
            found = sorted([*_checkpoints(folder), *aside], key=_step)
            place = found[-1] if found else None
        else:
            place = Path(wanted) if Path(wanted) in aside else find(folder, wanted)
        return None if place is None else _read_kept(aside.get(place, place))
    except ValueError:  # opening the run and `restore` say what is wrong
        return None


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


def _read_kept(folder: Path) -> Kept:
    try:
        content = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
        processes = content.pop(_PROCESSES)
        precision, options = content.pop(_PRECISION, None), content.pop(_OPTIONS, None)
        identity, division = content.pop(_IDENTITY, {}), kept_division(content.pop(_DIVISION, None), options, processes)
        return Kept(Progress(**content), processes, precision, options, identity, division)
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
    return sorted(folders, key=_step)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(_PREFIX))
