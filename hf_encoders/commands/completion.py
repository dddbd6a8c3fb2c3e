"""`hf-encoders completion`: a script that makes a shell complete commands, options and their choices.

    source <(hf-encoders completion bash)            # in ~/.bashrc
    source <(hf-encoders completion zsh)             # in ~/.zshrc, after compinit
    hf-encoders completion fish | source             # in ~/.config/fish/config.fish

The script holds all words, so that no key press starts Python.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from ..data.presets import PRESETS
from .inputs import DATA, ON_THIS_MACHINE, OR_ON_THE_HUB
from .options import path
from .runner import Result

_OF_TRAINING = (
    "init_from", "text_model", "vision_model", "depth_model", "teacher", "output_dir", "resume_from_checkpoint",
)  # fmt: skip


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
    _add_training(commands.choices["train"])
    for command in commands.choices.values():
        _complete_files(command, shtab.FILE)
        _complete_presets(command)
    return Result([shtab.complete(parser, args.shell).rstrip("\n")], None)


def _add_training(parser: argparse.ArgumentParser) -> None:
    """Add the recipes, and the options of both trainings, which parse them by themselves otherwise."""
    from ..training import pretrain, pretrain_depth
    from ..training.option_parser import OptionParser
    from ..training.recipe import recipe_names

    parser.add_argument("recipe", nargs="?", choices=recipe_names(), help="a recipe of this package")
    known: dict[str, argparse.Action] = {}
    for kinds in (pretrain.KINDS, pretrain_depth.KINDS):
        for action in OptionParser(kinds, "")._actions:
            name = action.option_strings[-1]
            if name == "--help":
                continue
            if name in known:  # with other values to choose from, maybe
                both = [*(known[name].choices or ()), *(action.choices or ())]
                known[name].choices = list(dict.fromkeys(both)) or None
            elif action.nargs == 0:  # turns something off
                known[name] = parser.add_argument(name, action="store_false", help=action.help)
            else:
                settings: dict[str, Any] = {"nargs": action.nargs, "choices": action.choices, "help": action.help}
                known[name] = parser.add_argument(name, default=action.default, **settings)


def _complete_presets(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if action.dest == "preset":  # parsing takes other spellings too
            action.choices = list(PRESETS)


def _complete_files(parser: argparse.ArgumentParser, complete: Mapping[str, object]) -> None:
    for action in parser._actions:
        if action.type is path or action.dest in (*ON_THIS_MACHINE, *OR_ON_THE_HUB, *DATA, *_OF_TRAINING):
            vars(action)["complete"] = complete
