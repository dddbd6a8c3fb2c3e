"""The `hf-encoders` command: everything that one does with an encoder, from a terminal."""

import argparse
import sys
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Protocol, cast

from .._version import __version__
from ..command_line import OneLineArgumentParser, nearest, run
from ..places import did_you_mean
from .runner import Result, perform, set_defaults

# Command → its help. The module of the same name has `add_options` and `run`. It is imported when the command runs, and
# `add_options` imports neither torch nor transformers, so that --help is fast.
COMMANDS = {
    "convert": "turn a legacy checkpoint into a repo, and prove that it is the same",
    "adopt": "turn a network of your own into a repo, and prove that it is the same",
    "inspect": "print what is in a file of weights of any kind",
    "verify": "check a converted repo again",
    "export-legacy": "turn a repo back into a legacy checkpoint",
    "encode": "embed images or depth maps into a .npz file",
    "embed": "embed a data set of any size into parquet shards, resumably",
    "search": "find images, depth maps or texts by words or by example",
    "classify": "label images or depth maps with words, without training",
    "evaluate": "measure retrieval, zero-shot classification and probes on a data set",
    "demo": "show a page to search, classify, convert and explore in a browser, on this machine",
    "calibrate": "measure when an input is none of the labels, for classify --threshold calibrated",
    "train": "train a model by a recipe, on this process",
    "export": "compile a model's towers for encode(backend=...)",
    "push": "upload a model's folder to the Hub, with its card and code, in one commit",
    "completion": "print the script that makes bash, zsh or fish complete these commands",
}


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit status 2."""
    run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Parse the arguments and run the command that they name."""
    wanted = next((word for word in argv if not word.startswith("-")), "")
    if wanted == "train" and argv[0] == wanted:  # the training scripts parse their options themselves
        cast(OwnParser, module_of(wanted)).command(argv[1:])
        return
    parser = make_parser([wanted] if wanted in COMMANDS else [])
    if not argv:
        parser.error(f"give a command: {', '.join(COMMANDS)}")
    if argv[0] == wanted and wanted not in COMMANDS:
        near, all_of_them = did_you_mean(nearest(wanted, COMMANDS)), f"the commands are {', '.join(COMMANDS)}"
        parser.error(f"no command {wanted!r}; {near or all_of_them}")
    args = parser.parse_args(argv)
    perform(module_of(args.command).run, args)


def make_parser(names: Collection[str]) -> OneLineArgumentParser:
    """Make the parser of some commands; others need not be imported.

    Args:
        names: the commands. Without any it is the parser of all, which lists them and knows none of their options.
    """
    parser = OneLineArgumentParser(prog="hf-encoders", description=(__doc__ or "").partition(":")[2].strip())
    parser.add_argument("--version", action="version", version=f"hf-encoders {__version__}")
    set_defaults(parser)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in names or COMMANDS:
        text = COMMANDS[name]
        its_parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name in names:
            module_of(name).add_options(its_parser)
    return parser


class Command(Protocol):
    """The module of a command."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command."""

    def run(self, args: argparse.Namespace) -> Result | None:
        """Do its work; None is the result of a process that is not the main one."""


class OwnParser(Protocol):
    """The module of a command that parses its options itself."""

    def command(self, argv: Sequence[str]) -> None:
        """Parse the options and do the work."""


def module_of(name: str) -> Command:
    """The module of a command."""
    return cast(Command, import_module(f"{__package__}.{name.replace('-', '_')}"))


if __name__ == "__main__":
    main()
