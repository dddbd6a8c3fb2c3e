"""Runs a command: its words are parsed, its work is done, and its result is printed in the format asked for."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import NamedTuple

from ..command_line import OneLineArgumentParser
from .options import JSON, TABLE, as_paths

_INFINITY = float("inf")


class Result(NamedTuple):
    """The result of a command, as it is printed.

    Args:
        lines: the lines for people.
        content: the data for programs: a mapping is one JSON document, a list is JSON lines.
    """

    lines: Sequence[str]
    content: object

    def text(self, form: str) -> str:
        """The result as a table or as JSON."""
        if form != JSON:
            return "".join(f"{line}\n" for line in self.lines)
        if isinstance(self.content, list):
            return "".join(f"{to_json(record)}\n" for record in self.content)
        return f"{to_json(self.content, indent=2)}\n"


def to_json(content: object, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """JSON by the standard: a number that is not finite becomes null."""
    import json

    return json.dumps(_finite(content), allow_nan=False, default=str, indent=indent, ensure_ascii=ensure_ascii)


def _finite(content: object) -> object:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not abs(content) < _INFINITY:
        return None
    return content


Run = Callable[[argparse.Namespace], Result | None]


def perform(run: Run, args: argparse.Namespace) -> None:
    """Run a command and print its result. Everything that libraries print meanwhile goes to stderr.

    Args:
        run: the function of the command's module. It returns None in a process that is not the main one.
        args: the parsed arguments.

    Raises:
        InputError: if a file, folder or repo that they name is not there.
    """
    from .inputs import check_ids, check_inputs

    check_inputs(args)
    _use_token(args.token)
    check_ids(args)
    as_paths(args)
    with redirect_stdout(sys.stderr):
        result = run(args)
    if result is None:
        return
    try:
        sys.stdout.write(result.text(args.format))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def perform_alone(
    prog: str,
    doc: str | None,
    add_options: Callable[[argparse.ArgumentParser], None],
    run: Run,
    argv: Sequence[str],
) -> None:
    """Run a command that is called by itself, not as part of `hf-encoders`.

    Args:
        prog: the name by which a person calls it.
        doc: the docstring of its module, whose first line describes it.
        add_options: the function of its module.
        run: the function of its module.
        argv: the words after its name.
    """
    parser = OneLineArgumentParser(prog=prog, description=(doc or "").partition("\n")[0])
    set_defaults(parser)
    add_options(parser)
    perform(run, parser.parse_args(argv))


def set_defaults(parser: argparse.ArgumentParser) -> None:
    """Set the defaults for commands that lack these options."""
    parser.set_defaults(token=None, format=TABLE)


def _use_token(token: str | None) -> None:
    """Use the token for every request of this process: models, processors, data sets, pushes."""
    if token:
        os.environ["HF_TOKEN"] = token
        os.environ.pop("HF_HUB_DISABLE_IMPLICIT_TOKEN", None)  # a token that is given is meant to be used
