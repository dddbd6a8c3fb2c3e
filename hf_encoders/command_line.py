"""The shared behaviour of all commands: bad input ends in one line on stderr and exit status 2."""

import argparse
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, cast

from .models.input_errors import InputError
from .places import did_you_mean

INTERRUPTED, STOPPED = 130, 143  # what shells give for Ctrl-C, and for SIGTERM
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_HIDDEN = "hf_***"
_USUAL_COLUMNS = 80


class HelpFormatter(argparse.HelpFormatter):
    """Argparse's own, which imports more to learn the width of the terminal than a command needs for its help."""

    def __init__(self, prog: str, indent_increment: int = 2, max_help_position: int = 24, width: int | None = None):
        super().__init__(prog, indent_increment, max_help_position, width or _columns() - 2)


def _columns() -> int:
    """The width of the terminal, as `shutil.get_terminal_size` finds it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or _USUAL_COLUMNS  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):  # no stdout, or no terminal
        return _USUAL_COLUMNS


class OneLineArgumentParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors take one line.

    Its options are declared with dashes, and typed with dashes or underscores, in full: a name that becomes another
    option when one is added would be no name.
    """

    def __init__(self, **settings: Any):
        ours: dict[str, Any] = {"formatter_class": HelpFormatter, "allow_abbrev": False}
        super().__init__(**ours | settings)

    def parse_known_args(  # type: ignore[override]  # of the overloads, all of which it serves
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, after underscores in options became dashes, and refuse options that are none."""
        words = list(sys.argv[1:] if args is None else args)
        self.check_options(words)
        return super().parse_known_args(with_dashes(words), namespace)

    def check_options(self, words: Sequence[str]) -> None:
        """Refuse the first option that is none; argparse would name what is missing instead."""
        options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        known = {with_dashes([name])[0]: name for name in options}
        has_commands = any(action.nargs == argparse.PARSER for action in self._actions)
        for word, plain in zip(words, with_dashes(words), strict=True):
            if word == "--" or (has_commands and not word.startswith("-")):
                return  # what follows is no option, or one of the command
            name = plain.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in known:
                near = did_you_mean(known[one] for one in nearest(name, known))
                self.error(f"no option {word.partition('=')[0]}{near and f'; {near}'}")

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"{self.prog}: {without_tokens(message)} (see --help)\n")


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The names that one that is none was meant for: those that begin with it, else the one most like it."""
    from difflib import get_close_matches  # here: only who errs waits for it

    wanted, plain = name.strip("-"), {one.strip("-"): one for one in names}
    begin = [one for one in plain if wanted and one.startswith(wanted)]
    return [plain[one] for one in begin or get_close_matches(wanted, plain, 1)]


def started_as() -> str:
    """What a launcher was given to start this process: the script, or the module behind -m."""
    spec = sys.modules["__main__"].__spec__
    return f"-m {spec.name}" if spec else sys.argv[0]


def with_dashes(words: Sequence[str]) -> list[str]:
    """Write the options among the words of a command line with dashes in place of underscores."""
    words = list(words)
    end = words.index("--") if "--" in words else len(words)
    return [*map(_with_dashes, words[:end]), *words[end:]]


def _with_dashes(word: str) -> str:
    name, equals, value = word.partition("=")
    is_option = name.startswith("--") and " " not in name  # argparse takes a word with spaces for a value
    return f"{name.replace('_', '-')}{equals}{value}" if is_option else word


def run(command: Callable[[], None]) -> None:
    """Run a command; an exception becomes one line on stderr and exit status 2.

    Ctrl-C ends in one line and exit status 130, SIGTERM in one and 143. With HF_ENCODERS_DEBUG set, the traceback is
    printed too.
    """
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show must not fail a finished command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _plain_warnings(), _noticing_sigterm():
            command()
    except Stopped as stop:
        sys.stderr.write(f"stopped; {str(stop) or 'nothing was written'}\n")
        sys.exit(STOPPED)
    except KeyboardInterrupt as interrupt:
        sys.stderr.write(f"interrupted; {str(interrupt) or 'nothing was written'}\n")
        sys.exit(INTERRUPTED)
    except Exception as error:  # any error is one line for the person at the terminal
        if os.environ.get("HF_ENCODERS_DEBUG"):
            import traceback

            sys.stderr.write(without_tokens(traceback.format_exc()))
        sys.stderr.write(f"error: {describe(error)}\n")
        sys.exit(2)


class Stopped(KeyboardInterrupt):
    """A command was asked to stop by SIGTERM; the message says how to go on."""


@contextmanager
def _noticing_sigterm() -> Iterator[None]:
    """SIGTERM stops the command like Ctrl-C, so that it says how to go on and leaves nothing half-written.

    One of several processes keeps Python's way, which is to end at once: it may be waiting for the others.
    """
    is_alone = os.environ.get("WORLD_SIZE", "1") == "1" and threading.current_thread() is threading.main_thread()
    if not is_alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _stop:  # a training has its own
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
    raise Stopped


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings take one line, without the line of code that warns; those for developers of libraries are left out.

    Filters that a person gave to Python (-W, PYTHONWARNINGS) decide instead, where there are some.
    """
    with_code, filters = warnings.formatwarning, cast(list[object], warnings.filters)
    before = list(filters)
    warnings.formatwarning = _plain_warning  # type: ignore[assignment]  # it takes what Python's own takes
    if not sys.warnoptions:
        for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module=".*")  # of any module: no filter is like it
    added = [one for one in filters if one not in before]
    try:
        yield
    finally:
        warnings.formatwarning = with_code
        for one in added:
            if one in filters:
                filters.remove(one)


def _plain_warning(message: Warning | str, *_: object) -> str:
    return f"warning: {' '.join(without_tokens(str(message)).split())}\n"


def describe(error: Exception) -> str:
    """One line for an exception."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return " ".join(text.split())
    message = " ".join(without_tokens(str(error)).split())
    if isinstance(error, InputError) and not (error.__cause__ or error.__context__):  # nothing of the Hub
        return message
    from .hub.errors import hub_advice

    if advice := hub_advice(error):
        message = f"{message.rstrip('.')}; {advice}" if advice not in message else message
    return message if isinstance(error, (ValueError, OSError)) and message else f"{type(error).__name__}: {message}"


def without_tokens(text: str) -> str:
    """Hide tokens of the Hub in a text: the one in use, and all that look like one."""
    text = _TOKEN.sub(_HIDDEN, text)
    used = os.environ.get("HF_TOKEN", "").strip()
    return text.replace(used, _HIDDEN) if len(used) >= 16 else text  # a shorter one may be part of a word
