"""What every command of this project does alike: bad input ends in one line on stderr and exit status 2."""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from .hub.errors import hub_advice


class OneLineArgumentParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors take one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def add_compute(parser: argparse.ArgumentParser) -> None:
    """The options of what embeds."""
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "int8"), help="compute in fewer bits")
    parser.add_argument(
        "--backend", choices=("torch", "onnx", "openvino"), default="torch", help="what computes (default: %(default)s)"
    )


def add_destination(parser: argparse._ActionsContainer) -> None:
    """The options of a push to the Hub."""
    parser.add_argument("--private", action="store_true", help="make the repo private")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch, made if there is none")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument(
        "--with-remote-code",
        action=argparse.BooleanOptionalAction,
        help="put the model files of this package into the repo, for trust_remote_code=True (default: in pushes)",
    )


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
