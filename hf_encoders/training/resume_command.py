"""The command line that resumes a run: the one that started it, with its launcher."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

_OPTIONS = ("--resume_from_checkpoint", "--resume-from-checkpoint")
# Names in a launcher's command line: its script or its module.
_LAUNCHERS = ("accelerate", "accelerate.commands.launch", "torchrun", "torch.distributed.run", "deepspeed")


def resume_command() -> str:
    """The command that resumes the run of this process from its last checkpoint."""
    return resume_words(sys.orig_argv, sys.argv[1:], _PARENT[1])


def launcher_of_this_process() -> int | None:
    """The process id of the launcher that started this process: None where nobody launched it."""
    process, words = _PARENT
    return process if _launches(words, sys.argv[1:]) else None


def _parent() -> tuple[int, list[str]]:
    """The process that started this one, and its command line."""
    try:
        parent = psutil.Process().parent()
        return (0, []) if parent is None else (parent.pid, parent.cmdline())
    except psutil.Error:  # the parent is gone, or another user's
        return 0, []


def resume_words(own: Sequence[str], arguments: Sequence[str], launcher: Sequence[str] = ()) -> str:
    """Make that command from command lines.

    Args:
        own: the command line of this process, with its interpreter.
        arguments: the words after the script or module.
        launcher: the command line of the process that started this one, whatever it is.
    """
    words = list(launcher) if _launches(launcher, arguments) else list(own)
    before, after = words[: len(words) - len(arguments)], words[len(words) - len(arguments) :]
    return shlex.join([*_as_typed(before), *_without_resume(after), _OPTIONS[0], "latest"])


# Read once, as the launcher may end before the run does.
_PARENT = _parent()


def _launches(words: Sequence[str], arguments: Sequence[str]) -> bool:
    """Whether a launcher's command line ends in these arguments."""
    ends = not arguments or list(words[-len(arguments) :]) == list(arguments)
    return ends and any(Path(word).name in _LAUNCHERS for word in words[: len(words) - len(arguments)])


def _as_typed(words: Sequence[str]) -> list[str]:
    """The words as a person typed them: an interpreter runs an installed command, and its path means nothing."""
    interpreter, *rest = words
    if rest[:1] == ["-u"]:  # torchrun adds it
        rest = rest[1:]
    if rest and Path(rest[0]).parent == Path(interpreter).parent:
        return [Path(rest[0]).name, *rest[1:]]
    if rest[:2] == ["-m", "accelerate.commands.launch"]:
        return ["accelerate", "launch", *rest[2:]]
    return ["python", *rest]


def _without_resume(words: Sequence[str]) -> list[str]:
    """The arguments without the option that is added, in any of its forms."""
    kept = []
    remaining = iter(words)
    for word in remaining:
        option, is_joined, _ = word.partition("=")
        if option not in _OPTIONS:
            kept.append(word)
        elif not is_joined:
            next(remaining, None)  # its value
    return kept
