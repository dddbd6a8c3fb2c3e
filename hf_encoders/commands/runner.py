"""Runs a command: its words are parsed, its work is done, and its result is printed in the format asked for."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

from ..command_line import OneLineArgumentParser
from .options import JSON, TABLE


@dataclass(frozen=True)
class Result:
    """What a command prints.

    Args:
        lines: for people.
        content: for programs: a mapping is one JSON document, a list is JSON lines.
    """

    lines: Sequence[str]
    content: object

    def text(self, form: str) -> str:
        """The result as a table or as JSON, in letters that every terminal and pipe takes as they are."""
        if form != JSON:
            return "".join(f"{line}\n" for line in self.lines)
        if isinstance(self.content, list):
            return "".join(f"{to_json(one)}\n" for one in self.content)
        return f"{to_json(self.content, indent=2)}\n"


def to_json(content: object, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """JSON as the standard has it: a number that is not finite is null."""
    return json.dumps(_finite(content), allow_nan=False, default=str, indent=indent, ensure_ascii=ensure_ascii)


def _finite(content: object) -> object:
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


Run = Callable[[argparse.Namespace], Result | None]


def perform(run: Run, args: argparse.Namespace) -> None:
    """Run a command and print its result; stdout is for that alone, whatever a library prints meanwhile.

    Args:
        run: of the command's module; None is the result of a process that is not the main one.
        args: what the command was told.
    """
    _use_token(args.token)
    with redirect_stdout(sys.stderr):
        result = run(args)
    if result is None:
        return
    try:
        sys.stdout.write(result.text(args.format))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
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
        prog: what a person calls it by.
        doc: docstring of its module, whose first line describes it.
        add_options: of its module.
        run: of its module.
        argv: the words after its name.
    """
    parser = OneLineArgumentParser(prog=prog, description=(doc or "").partition("\n")[0])
    set_defaults(parser)
    add_options(parser)
    perform(run, parser.parse_args(argv))


def set_defaults(parser: argparse.ArgumentParser) -> None:
    """What holds for a command without these options."""
    parser.set_defaults(token=None, format=TABLE)


def _use_token(token: str | None) -> None:
    """Use it for whatever this process asks the Hub for: models, processors, data sets, pushes."""
    if token:
        os.environ["HF_TOKEN"] = token
        os.environ.pop("HF_HUB_DISABLE_IMPLICIT_TOKEN", None)  # it was said
