"""The processes that run a network of somebody's own: this one never imports its code."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import AdoptError

_HERE = Path(__file__).parent
_SAID = 300  # characters of what a process that died said last


class OriginalProcess:
    """The process that has the original class; see `own_process/original.py`. A context manager, which ends it.

    Args:
        folder: where it reads and writes; it holds the request.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [*_python("original"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=_environment(folder, ()),
            text=True,
        )

    def __enter__(self) -> "OriginalProcess":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # its code has threads that do not end
            self._process.kill()
            self._process.wait()
        self._said.close()

    def answer(self, request: Mapping[str, object] | None = None) -> dict[str, Any]:
        """The next answer.

        Args:
            request: what is asked; None for the answer to the request in the folder.

        Raises:
            AdoptError: with what the process says against it.
        """
        if request is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            status = self._process.wait()
            self._said.seek(0)
            raise AdoptError(f"the process of the network ended with status {status}{_last(self._said.read())}")
        return _checked(json.loads(line))


def run_loaded(folder: Path, repo: Path, roots: Sequence[Path]) -> dict[str, Any]:
    """Load and run a repo in a process that sees nothing else; see `own_process/loaded.py`.

    Args:
        folder: it holds the inputs, and gets the outputs.
        repo: the repo.
        roots: folders of the original code, which the process must not find.

    Raises:
        AdoptError: if the repo cannot be loaded or run.
    """
    alone, seen = folder / "elsewhere", folder / "repo"
    alone.mkdir()
    seen.symlink_to(repo.resolve())  # a hidden folder's name is no name of a module
    done = subprocess.run(
        [*_python("loaded"), str(folder), str(seen)],
        capture_output=True,
        cwd=alone,
        env=_environment(folder, roots),
        check=False,
    )
    if not done.stdout:
        raise AdoptError(f"the process of the repo ended with status {done.returncode}{_last(done.stderr)}")
    return _checked(json.loads(done.stdout), "the repo cannot be loaded: ")


def _python(name: str) -> list[str]:
    """The command that runs a module of `own_process`, before its arguments."""
    return [sys.executable, "-P", str(_HERE / "own_process" / "start.py"), name]


def _checked(answer: dict[str, Any], before: str = "") -> dict[str, Any]:
    if "error" in answer:
        raise AdoptError(f"{before}{answer['error']}")
    return answer


def _last(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return f" ({lines[-1].strip()[:_SAID]})" if lines else ""


def _environment(folder: Path, hidden: Sequence[Path]) -> dict[str, str]:
    """The environment of a process: on the CPU, off the Hub, with a place of its own for remote code."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    seen = [path for path in paths if Path(path).resolve() not in hidden]
    return os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(folder / "modules"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(seen),
        "TOKENIZERS_PARALLELISM": "false",
    }
