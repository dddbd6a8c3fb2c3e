"""What every command of this project does alike: bad input ends in one line on stderr and exit status 2."""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from .hub.errors import hub_advice


class OneLineArgumentParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors take one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parse_alone(
    prog: str, doc: str | None, add_options: Callable[[argparse.ArgumentParser], None], argv: Sequence[str]
) -> argparse.Namespace:
    """Arguments of a command that is called by itself, not as part of `hf-encoders`.

    Args:
        prog: what a person calls it by.
        doc: docstring of its module, whose first line describes it.
        add_options: of its module.
        argv: the words after its name.
    """
    parser = OneLineArgumentParser(prog=prog, description=(doc or "").partition("\n")[0])
    add_options(parser)
    return parser.parse_args(argv)


def run(command: Callable[[], None]) -> None:
    """Run a command; an exception becomes one line on stderr and exit status 2.

    With HF_ENCODERS_DEBUG set, the traceback is printed too.
    """
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show must not fail a finished command
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing was written")
    except Exception as error:  # whatever it is, the person at the terminal gets one line
        if os.environ.get("HF_ENCODERS_DEBUG"):
            traceback.print_exc()
        sys.stderr.write(f"error: {describe(error)}\n")
        sys.exit(2)


def describe(error: Exception) -> str:
    """One line for an exception."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return " ".join(text.split())
    message = " ".join(str(error).split())
    if advice := hub_advice(error):
        message = f"{message.rstrip('.')}; {advice}" if advice not in message else message
    return message if isinstance(error, (ValueError, OSError)) and message else f"{type(error).__name__}: {message}"
