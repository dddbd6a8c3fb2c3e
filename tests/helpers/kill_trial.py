"""Ends a command at its n-th change of the file system, goes on, and compares every file with an undisturbed run.

    python -m tests.helpers.kill_trial NUMBER LOG SCRIPT WORDS...     (NUMBER 0: to the end; LOG: one line per change)

What counts: a file that is opened for writing, a rename, a removal, a new folder, below the current folder. The signal
is SIGKILL, sent just before the change. Of several processes of a run, the first one is ended.

A run of one process is forked from one that has imported what all commands import, which takes longer than the command.
"""

import multiprocessing
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Files that tell of the moment or the process, not of the result.
_OWN = ("run.lock",)
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Trial:
    """A command that writes, in a folder of its own.

    Args:
        name: of the trial.
        words: the command's words, beginning with the script or `-m MODULE`; paths are relative to the folder.
        again: what is added to go on after a kill, once something is there.
        output: the file or folder whose presence says so.
        prepare: writes the inputs into the folder.
        ranks: how many processes there are.
        ignored: further names of files that may differ.
        environment: variables of the command.
    """

    name: str
    words: Sequence[str]
    again: Sequence[str] = ()
    output: str = ""
    prepare: Callable[[Path], None] = lambda folder: None
    ranks: int = 1
    ignored: Sequence[str] = field(default_factory=tuple)
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, folder: Path, number: int = 0, again: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the command in a folder; end it at a change."""
        words = [*self.words, *(self.again if again and (folder / self.output).exists() else ())]
        log = folder.with_suffix(".log")
        if self.ranks == 1 and not self.environment:  # which libraries read when they are imported
            return _forked(number, log, words, folder)
        runner = ["-m", "tests.helpers.kill_trial", str(number), str(log), *words]
        launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(self.ranks)]
        launcher += ["--mixed_precision", "no", "--main_process_port", "0"]
        command = [sys.executable, *(launcher if self.ranks > 1 else []), *runner]
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | _ENVIRONMENT | dict(self.environment)
        with open(folder.with_suffix(".out"), "w+") as out:  # a worker process may hold a pipe open for a while
            done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=folder, text=True)
            out.seek(0)
            done.stdout = out.read()
        return done

    def changes(self, folder: Path) -> list[str]:
        """The changes of the last run to the end."""
        return folder.with_suffix(".log").read_text().splitlines()


class Undisturbed:
    """A run to the end, which others are compared with.

    Args:
        trial: the command.
        parent: where the folders of its runs are made.
    """

    def __init__(self, trial: Trial, parent: Path):
        self.trial, self.parent = trial, parent
        folder = self._new_folder("whole")
        done = trial.run(folder)
        assert done.returncode == 0, done.stdout[-2000:]
        self.changes, self.files = trial.changes(folder), _files(folder, trial.ignored)

    def differs_after(self, number: int) -> str:
        """End the command at a change, go on, and compare: what is wrong, in words, or nothing."""
        folder = self._new_folder(f"killed-{number}")
        killed = self.trial.run(folder, number)
        if killed.returncode == 0:
            return f"change {number}: the command was not ended"
        resumed = self.trial.run(folder, again=True)
        where = f"ended before {self.changes[number - 1]} ({number} of {len(self.changes)})"
        if resumed.returncode:
            return f"{where}: exit {resumed.returncode}: {resumed.stdout[-600:]}"
        found = _files(folder, self.trial.ignored)
        shutil.rmtree(folder)
        if missing := sorted(self.files.keys() - found.keys()):
            return f"{where}: without {', '.join(missing)}"
        if left := sorted(found.keys() - self.files.keys()):
            return f"{where}: leaves {', '.join(left)}"
        different = sorted(name for name, content in self.files.items() if found[name] != content)
        return f"{where}: other content in {', '.join(different)}" if different else ""

    def _new_folder(self, name: str) -> Path:
        folder = self.parent / name / "place"  # runs write the name of their folder
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        self.trial.prepare(folder)
        return folder


# When a shard of embeddings was written, which its record tells.
_TIME = re.compile(rb'"time_ns": \d+')


def _files(folder: Path, ignored: Sequence[str]) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too; and the folders that hold nothing."""
    paths = sorted(folder.rglob("*"))
    names = {path: str(path.relative_to(folder)) for path in paths if path.name not in (*_OWN, *ignored)}
    return {
        name: _TIME.sub(b"", path.read_bytes()) if path.is_file() else b"an empty folder"
        for path, name in names.items()
        if path.is_file() or not any(path.iterdir())
    }


def _end_at(number: int, log: Path) -> None:
    """From now on this process counts what it changes, and ends just before one of the changes."""
    process, place, count = os.getpid(), os.getcwd(), 0
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if not arguments or os.getpid() != process:
            return
        path = arguments[0]
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            is_write = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & _WRITES
            )
            if not is_write:
                return
        elif event not in _CHANGES:
            return
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.path.abspath(os.fsdecode(path))
        if not name.startswith(place + os.sep):
            return
        count += 1
        os.write(out, f"{event} {name[len(place) + 1 :]}\n".encode())
        if count == number:
            os.kill(process, signal.SIGKILL)

    sys.addaudithook(hook)


def _run(number: int, log: Path, words: Sequence[str]) -> None:
    """The command, in this process."""
    sys.argv = list(words)
    if os.environ.get("RANK", "0") == "0":
        _end_at(number, log)
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


_COMMON = ["accelerate", "datasets", "pandas", "safetensors.torch", "torch._dynamo", "transformers.modeling_utils"]


def _forked(number: int, log: Path, words: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process that has its imports already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_COMMON, "hf_encoders.training.pretrain", "hf_encoders.training.pretrain_depth"])
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)  # the server is started by the first run, and keeps what it finds
    try:
        method = multiprocessing.get_start_method()  # of the command's own workers: a child would take this one
        process = context.Process(target=_in_folder, args=(number, log, list(words), folder, method))
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    process.join()
    return subprocess.CompletedProcess(list(words), process.exitcode, folder.with_suffix(".out").read_text())


def _in_folder(number: int, log: Path, words: Sequence[str], folder: Path, method: str) -> None:
    """A run in its folder, whose output goes beside it."""
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(ROOT)
    multiprocessing.set_start_method(method, force=True)
    with open(folder.with_suffix(".out"), "w") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    _run(number, log, words)


if __name__ == "__main__":
    number, log, *words = sys.argv[1:]
    _run(int(number), Path(log), words)
