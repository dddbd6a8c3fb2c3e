"""Recipes: a run's options as YAML, with flags on top; those of this package by name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from ..command_line import OneLineArgumentParser
from ..models.input_errors import one_line

RECIPES = Path(__file__).parent / "recipes"
_CLONE = Path(__file__).resolve().parents[2]  # where `samples` lies, unless the package is installed elsewhere
_SAMPLES = "samples/"
_SUFFIXES = (".yaml", ".yml")
_MODEL_TYPE = "model_type"
# Options whose values in a recipe may be paths in a clone.
_PATHS = ("dataset", "init_from", "text_model", "vision_model", "depth_model", "tokenizer", "teacher")

# Options that a recipe states even where they are the defaults, and those that say nothing of how a model was made.
_STATED = ("seed", "epochs", "batch_size", "learning_rate")
_PLACES = ("output_dir", "resume_from_checkpoint", "push_to_hub", "report_to")


def option(default: Any, text: str, **metadata: Any) -> Any:
    """A field with its help."""
    metadata = {"help": text, **metadata}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def parse(
    argv: Sequence[str], kinds: Sequence[type[Any]], default_recipe: str | Path, description: str
) -> tuple[Any, ...]:
    """Read `[RECIPE] [--option value ...]` into dataclasses.

    Args:
        argv: the words. RECIPE is a YAML file, or the name of one in this package.
        kinds: the dataclasses. The one with `model_type` says what is trained.
        default_recipe: the same where the words name none.
        description: of the command, for --help.

    Raises:
        ValueError: if the recipe cannot be read, trains another model, or has an option that does not exist.
    """
    arguments = list(argv)
    given = arguments.pop(0) if arguments and not arguments[0].startswith("-") else default_recipe
    recipe = find_recipe(given)
    description += f" A RECIPE may come first ({', '.join(recipe_names())}, or a YAML file); flags overrule it."
    parser = _Parser(kinds, description=description)  # type: ignore[arg-type]  # mypy sees argparse alone
    for action in parser._actions:
        if action.type is Any:  # a mapping, as text
            action.type = str
    defaults = _read_recipe(recipe, {action.dest: action.choices for action in parser._actions})
    (trained,) = (kind.model_type for kind in kinds if hasattr(kind, _MODEL_TYPE))
    if (found := defaults.pop(_MODEL_TYPE, trained)) != trained:
        raise ValueError(f"{recipe}: trains a {found}, and this script a {trained}; use hf-encoders train")
    parser.set_defaults(**defaults)
    options = parser.parse_args_into_dataclasses(arguments, look_for_args_file=False)
    _check_samples(options)
    return tuple(_with_json(one) for one in options)


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe.

    Args:
        name: a YAML file, or the name of one in this package, such as "lit".

    Raises:
        ValueError: if there is none.
    """
    path = Path(name)
    if path.is_file() or path.suffix in _SUFFIXES or len(path.parts) > 1:
        return path  # what is wrong with it is said when it is read
    bundled = RECIPES / f"{path}.yaml"
    if not bundled.is_file():
        raise ValueError(f"{name}: no such recipe; give a YAML file, or one of {', '.join(recipe_names())}")
    return bundled


def recipe_names() -> list[str]:
    """The recipes of this package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def trained_model(argv: Sequence[str]) -> str | None:
    """The `model_type` that the recipe of a command line trains; None if none is named, or it does not say.

    Raises:
        ValueError: if the recipe cannot be read.
    """
    if not argv or argv[0].startswith("-"):
        return None
    return _read_yaml(find_recipe(argv[0])).get(_MODEL_TYPE)


def as_recipe(options: Sequence[Any]) -> dict[str, Any]:
    """What `parse` reads, in the form of a recipe: what differs from the defaults, and what everyone asks for.

    Without where the result went; of files and folders, not where they lie on this machine.
    """
    recipe = {}
    for part in options:
        if hasattr(part, _MODEL_TYPE):
            recipe[_MODEL_TYPE] = part.model_type
        for one in fields(part):
            name, value = one.name, getattr(part, one.name)
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if (value != default or name in _STATED) and name not in _PLACES:
                recipe[name] = _named(value) if name in _PATHS else value
    return recipe


class _Parser(OneLineArgumentParser, HfArgumentParser):
    """HfArgumentParser whose errors take one line."""


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such recipe") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not a YAML recipe ({one_line(error)})") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: a recipe is a list of 'option: value'")
    return recipe


def _read_recipe(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says, checked against the options and their choices."""
    recipe = _read_yaml(path)
    unknown = sorted(set(map(str, recipe)) - {*known, _MODEL_TYPE})
    if unknown:
        raise ValueError(f"{path}: there is no option {', '.join(unknown)} (see --help)")
    for name, value in recipe.items():  # argparse checks the choices of flags alone
        if known.get(name) and value not in known[name]:
            raise ValueError(f"{path}: {name} is one of {', '.join(map(str, known[name]))}, got {value!r}")
    return {name: _found(value) if name in _PATHS else value for name, value in recipe.items()}


def _found(value: Any) -> Any:
    """A path in the clone, from wherever the script is started; what is there already, or no path, stays."""
    if isinstance(value, list):
        return [_found(one) for one in value]
    in_clone = _CLONE / str(value)
    return str(in_clone) if value and not Path(str(value)).exists() and in_clone.exists() else value


def _named(value: Any) -> Any:
    """What is in the clone by its path there, other files and folders by their name; the inverse of `_found`."""
    if isinstance(value, list):
        return [_named(one) for one in value]
    path = Path(str(value)).resolve()
    if not path.exists():
        return value
    return str(path.relative_to(_CLONE)) if path.is_relative_to(_CLONE) else path.name


def _check_samples(options: Sequence[Any]) -> None:
    """Refuse a bundled recipe's sample data where there is no clone that holds it."""
    for part in options:
        for name in _PATHS:
            values = getattr(part, name, None) or ()
            for value in [values] if isinstance(values, str) else values:
                if value.startswith(_SAMPLES) and not Path(value).exists():
                    raise ValueError(f"{value}: lies in a clone of hf_encoders, and this is none; give --{name}")


def _with_json(options: Any) -> Any:
    """Mappings come from YAML as such, and from flags as JSON."""
    for name in ("model_config", "image_processor", "depth_processor", "pair_weights"):
        value = getattr(options, name, None)
        if isinstance(value, str):
            try:
                setattr(options, name, json.loads(value))
            except ValueError:
                raise ValueError(f'--{name} {value}: expected JSON such as {{"a": 1}}') from None
    return options
