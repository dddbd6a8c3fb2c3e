"""Pages of Markdown, run as a reader runs them: README and docs/.

- ```` ```sh ````: commands, run in their order. `  # ...` after a command is a remark, `\\` joins lines.
- ```` ```python ````: code, run in one namespace per page.
- ```` ```text ````: some lines of what the block before printed, in their order.
- ```` ```yaml ```` that begins with `# name.yaml`, and ```` ```python ```` with `# name.py`: a file, which is written.
- Everything else is shown, and not run: what needs data, machines or programs that a test has not.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple

from hf_encoders.commands import main as cli
from tests.conftest import ROOT
from tests.helpers.runs import forget_runs

PROGRAM = "hf-encoders"
# Changes of this machine: looked at, not run.
_NOT_RUN = ("pip", "make", "git", "cd")
_FILE = re.compile(r"# ([\w.-]+\.(?:yaml|py))\n")
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
# Measured numbers depend on the processor; a temporary folder on the test.
_MEASURED = re.compile(r"-?\d+\.\d+(e-\d+)?")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, without their indentation."""
    return [Block(language, textwrap.dedent(text)) for _, language, text in _FENCED.findall(page)]


def command_lines(text: str) -> list[str]:
    """The commands of a block, each in one line and without the remark after it."""
    lines = [line.partition("  #")[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


def masked(text: str) -> str:
    """A text without its measured numbers."""
    return _MEASURED.sub("#", text)


def missing_lines(shown: str, printed: str) -> list[str]:
    """Lines that a page shows and a program did not print, or not in this order; a line may be shown in part."""
    rest, missing = masked(printed).splitlines(), []
    for line in masked(shown).splitlines():
        found = next((place for place, one in enumerate(rest) if line.strip() in one), None)
        if found is None:
            missing.append(line)
        else:
            rest = rest[found + 1 :]
    return missing


def link_clone(folder: Path) -> None:
    """Let a folder look like the root of a clone, as far as pages name what is in it."""
    for name in ("conversion", "examples", "model_cards", "samples", "training"):
        (folder / name).symlink_to(ROOT / name)


def run_page(page: str, folder: Path) -> None:
    """Run the blocks of a page in a folder, which is the current one.

    Raises:
        AssertionError: if a page shows what is not printed.
        BaseException: what a block raises.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page):
        if block.language in ("yaml", "python") and (name := _FILE.match(block.text)):
            (folder / name[1]).write_text(block.text)
        elif block.language == "sh":
            printed = "".join(run_line(line) for line in command_lines(block.text))
        elif block.language == "python":
            printed = run_code(block.text, names)
        elif block.language == "text":
            missing = missing_lines(block.text, printed)
            assert not missing, f"shown and not printed: {missing}\n{printed}"


def run_code(text: str, names: dict[str, object]) -> str:
    """Run Python code; returns what it printed."""
    with _printed() as printed:
        exec(compile(text, "page", "exec"), names)
    return printed.getvalue()


def run_line(line: str) -> str:
    """Run one command line, our own program in this process; returns what it printed."""
    words = shlex.split(line)
    if words[0] == PROGRAM:
        return run_command(words[1:])
    if words[0] in _NOT_RUN:
        check_not_run(words)
        return ""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
    return ended.stdout + ended.stderr


def run_command(words: list[str]) -> str:
    """Run `hf-encoders` with these words; each training is the first of its process."""
    forget_runs()
    with _printed() as printed, contextlib.suppress(SystemExit):  # of --help
        cli.command(words)
    return printed.getvalue()


def check_not_run(words: list[str]) -> None:
    """Check what can be checked of a line that changes the machine: extras and targets are there."""
    if words[0] == "make":
        subprocess.run([*words[:1], "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"(?:hf-encoders|\.)\[([\w,-]+)\]", " ".join(words)):
        assert set(named.split(",")) <= set(extras), named


@contextlib.contextmanager
def _printed():
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield stream
