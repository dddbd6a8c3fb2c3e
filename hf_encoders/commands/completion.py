"""`hf-encoders completion`: a script that makes a shell complete commands, options and their choices.

    source <(hf-encoders completion bash)            # in ~/.bashrc
    source <(hf-encoders completion zsh)             # in ~/.zshrc, after compinit
    hf-encoders completion fish | source             # in ~/.config/fish/config.fish

The script holds all words, so that no key press starts Python.
"""

import argparse
from collections.abc import Mapping

from .inputs import DATA, ON_THIS_MACHINE, OR_ON_THE_HUB
from .options import path
from .runner import Result


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that the script is for")


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
    for command in commands.choices.values():
        _complete_files(command, shtab.FILE)
    return Result([shtab.complete(parser, args.shell).rstrip("\n")], None)


def _complete_files(parser: argparse.ArgumentParser, complete: Mapping[str, object]) -> None:
    for action in parser._actions:
        if action.type is path or action.dest in (*ON_THIS_MACHINE, *OR_ON_THE_HUB, *DATA):
            vars(action)["complete"] = complete
