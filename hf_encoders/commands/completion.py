"""`hf-encoders completion`: what makes a shell complete commands, options and their choices.

    source <(hf-encoders completion bash)            # in ~/.bashrc
    source <(hf-encoders completion zsh)             # in ~/.zshrc, after compinit
    hf-encoders completion fish | source             # in ~/.config/fish/config.fish

The script holds all words, so that no key press starts Python.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from .runner import Result

# Words that may name a file; argparse knows of the others that they are paths.
_FILES_TOO = ("model", "source", "dataset", "train_dataset", "calibration")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose script is printed")


def run(args: argparse.Namespace) -> Result:
    """Make the script.

    Raises:
        ImportError: if shtab is missing.
    """
    from .main import COMMANDS, make_parser

    try:
        import shtab
    except ModuleNotFoundError as error:
        raise ImportError(f"completion needs: pip install 'hf-encoders[completion]' ({error})") from error
    parser = make_parser(COMMANDS)
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for one in commands.choices.values():
        _complete_files(one, shtab.FILE)
    return Result([shtab.complete(parser, args.shell).rstrip("\n")], None)


def _complete_files(parser: argparse.ArgumentParser, complete: Mapping[str, str]) -> None:
    for action in parser._actions:
        if action.type is Path or action.dest in _FILES_TOO:
            vars(action)["complete"] = complete
