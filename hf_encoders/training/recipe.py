"""Recipes: a run's options as YAML, with flags on top; those of this package by name."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from ..command_line import nearest, with_dashes
from ..data.names import check_data_name, is_pattern
from ..data.text_files import TextFileError, read_text
from ..models.input_errors import one_line
from ..places import check_on_hub, check_path_or_id, check_places, did_you_mean
from .option_parser import OptionParser
from .recipe_model import without_its_model

if TYPE_CHECKING:
    from dataclasses import Field

    from _typeshed import DataclassInstance

# Paths are texts here: pathlib takes longer to import than a wrong option to be found.
_HERE = os.path.dirname(__file__)
RECIPES = os.path.join(_HERE, "recipes")
# Where `samples` lies, unless the package is installed elsewhere.
_CLONE = os.path.dirname(os.path.dirname(os.path.realpath(_HERE)))
_SAMPLES = "samples/"
_SUFFIXES = (".yaml", ".yml")
# Of the dataclass of the model.
_MODEL_TYPE, _INSTEAD, _PARTS, _TOWERS = "model_type", "instead", "parts", "towers"
_DATASET = "dataset"
# Options whose values may be paths in a clone.
_MODELS = ("init_from", "text_model", "vision_model", "depth_model", "tokenizer", "teacher", "text_teacher")
_PATHS = ("dataset", "text_words", "text_teacher_words", *_MODELS)

_SETTINGS = ("model_config", "image_processor", "depth_processor", "pair_weights")
# A recipe states these options even where they are the defaults.
_STATED = ("seed", "epochs", "batch_size", "learning_rate")
# Whoever runs code says so: no file, which may be somebody else's, does it for them.
_CONSENT = "trust_remote_code"
# These options do not change the model.
_PLACES = ("output_dir", "resume_from_checkpoint", "push_to_hub", "report_to", _CONSENT)


def parse(
    argv: Sequence[str],
    kinds: "Sequence[type[DataclassInstance]]",
    default_recipe: str,
    description: str,
    prog: str | None = None,
) -> tuple[Any, ...]:
    """Read `[RECIPE] [--option value ...]` into dataclasses.

    Args:
        argv: the words. RECIPE is a YAML file, or the name of one in this package.
        kinds: the dataclasses. The one with `model_type` names the model that is trained.
        default_recipe: the recipe where the words name none.
        description: the command's description, for --help.
        prog: how a person calls the command, for --help and errors.

    Raises:
        ValueError: if the recipe cannot be read, trains another model, or has an option that does not exist; or if
            the data set is not given or not there. Ids on the Hub are not looked up: see `check_ids`.
    """
    arguments = list(argv)
    named = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    recipe = find_recipe(named or default_recipe)
    description += (
        f" A RECIPE may come first ({', '.join(recipe_names())}, or a YAML file), and flags overrule it; RECIPE --help"
        f" shows what it sets. Without a recipe and --dataset, {default_recipe} is taken."
    )
    parser = OptionParser(kinds, description, prog, "[RECIPE | FILE.yaml] [--OPTION VALUE ...]")
    parser.check_options(arguments)  # before YAML is imported
    if named is None and {"-h", "--help"} & set(arguments):
        parser.print_help()
        parser.exit()
    defaults = _read_recipe(recipe, {one.name: _choices(one) for kind in kinds for one in fields(kind)})
    lists = {one.name for kind in kinds for one in fields(kind) if one.default_factory is not MISSING}
    # One value of an option that takes several may stand alone, as on the command line.
    defaults = {name: [value] if name in lists and _is_one(value) else value for name, value in defaults.items()}
    (model,) = (kind for kind in kinds if hasattr(kind, _MODEL_TYPE))
    trained = getattr(model, _MODEL_TYPE)
    if (found := defaults.pop(_MODEL_TYPE, trained)) != trained:
        raise ValueError(f"{recipe}: trains a {found}, this script a {trained}; use hf-encoders train")
    flags = _given(kinds, arguments)
    if named is None and _DATASET in flags:  # the default recipe is of its own data, whose words and units are others
        defaults = {}
    ways = getattr(model, _INSTEAD, {}), getattr(model, _PARTS, ()), getattr(model, _TOWERS, {})
    defaults = without_its_model(defaults, flags, *ways)
    parser.set_defaults(**defaults)
    options = parser.parse(arguments)
    data = _named_data(options)
    _check_samples(options)
    _check_data(data)
    _check_models(options)
    for part in options:
        _read_json(part)
    return options


def check_ids(options: "Sequence[DataclassInstance]") -> None:
    """Refuse data sets and models that are neither here nor on the Hub, before anything heavy is imported.

    Raises:
        NoSuchPlaceError: for the first one.
    """
    for name in _named_data(options):
        if not is_pattern(name):
            check_on_hub(name, "dataset")
    for part in options:
        check_places(*(getattr(part, name, None) or None for name in _MODELS))


def find_recipe(name: str) -> str:
    """Find the file of a recipe.

    Args:
        name: a YAML file, or the name of one in this package, such as "lit".

    Raises:
        ValueError: if there is none.
    """
    if os.path.isfile(name) or os.path.splitext(name)[1] in _SUFFIXES or os.path.dirname(name):
        return name  # reading it says what is wrong with it
    bundled = os.path.join(RECIPES, f"{name}.yaml")
    if not os.path.isfile(bundled):
        raise ValueError(f"{name}: no such recipe; give a YAML file, or one of {', '.join(recipe_names())}")
    return bundled


def recipe_names() -> list[str]:
    """Names of the recipes of this package."""
    return sorted(os.path.splitext(name)[0] for name in os.listdir(RECIPES) if name.endswith(".yaml"))


def trained_model(argv: Sequence[str]) -> str | None:
    """The `model_type` that the recipe of a command line trains; None if no recipe or no type is named.

    Raises:
        ValueError: if the recipe cannot be read.
    """
    if not argv or argv[0].startswith("-"):
        return None
    trained = _read_yaml(find_recipe(argv[0])).get(_MODEL_TYPE)
    return None if trained is None else str(trained)


def as_recipe(options: "Sequence[DataclassInstance]") -> dict[str, object]:
    """Turn the options of a run into a recipe: those that differ from the defaults, and those that everyone asks for.

    The recipe does not say where the result went, nor where files and folders lie on this machine.
    """
    recipe: dict[str, object] = {}
    for part in options:
        if hasattr(part, _MODEL_TYPE):
            recipe[_MODEL_TYPE] = getattr(part, _MODEL_TYPE)
        for one in fields(part):
            name, value = one.name, getattr(part, one.name)
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if (value != default or name in _STATED) and name not in _PLACES:
                recipe[name] = _named(value) if name in _PATHS else value
    return recipe


def _given(kinds: "Sequence[type[DataclassInstance]]", arguments: Sequence[str]) -> set[str]:
    """The names of the options among the words of a command line."""
    typed = {word.partition("=")[0] for word in with_dashes(arguments)}
    names = [one.name for kind in kinds for one in fields(kind)]
    return {name for name in names if typed & set(with_dashes([f"--{name}", f"--no-{name}"]))}


def _is_one(value: object) -> bool:
    return value not in (None, "") and not isinstance(value, (list, dict))


def _choices(one: "Field[Any]") -> list[object] | None:
    """The values that an option may have; None if any."""
    choices = one.metadata.get("choices")
    return choices and [*choices, *([None] if one.default is None else [])]


def _read_yaml(path: str) -> dict[str, object]:
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such recipe") from None
    except TextFileError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a YAML recipe ({one_line(error)})") from None
    import yaml  # here: a recipe that is not there need not wait for it

    try:  # in C, many times as fast
        from yaml import CSafeLoader as Loader
    except ImportError:
        from yaml import SafeLoader as Loader
    try:
        recipe = yaml.load(text, Loader) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not a YAML recipe ({one_line(error)})") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: a recipe is a list of 'option: value'")
    return recipe


def _read_recipe(path: str, known: Mapping[str, Collection[object] | None]) -> dict[str, object]:
    """Read a recipe, and check it against the options and their choices.

    Args:
        path: the recipe.
        known: option → its choices, if they are limited.
    """
    recipe = _read_yaml(path)
    unknown = sorted(set(map(str, recipe)) - {*known, _MODEL_TYPE})
    if unknown:
        near = did_you_mean(nearest(unknown[0], known))
        raise ValueError(f"{path}: there is no option {', '.join(unknown)}{near and f'; {near}'} (see --help)")
    if _CONSENT in recipe:
        raise ValueError(f"{path}: {_CONSENT} is not for a recipe to say; say --{_CONSENT} if you have read the code")
    for name, value in recipe.items():  # argparse checks the choices of flags alone
        choices = known.get(name)
        if choices and "no" in choices and value is False:
            recipe[name] = value = "no"  # as YAML reads it
        if choices and value not in choices:
            listed = ", ".join(str(one) for one in choices if one is not None)
            raise ValueError(f"{path}: {name} is one of {listed}, got {value!r}")
    return {name: _found(value) if name in _PATHS else value for name, value in recipe.items()}


def _found(value: object) -> object:
    """Make a path in the clone absolute, wherever the script is started; other values stay."""
    if isinstance(value, list):
        return [_found(item) for item in value]
    in_clone = os.path.join(_CLONE, str(value))
    return in_clone if value and not os.path.exists(str(value)) and os.path.exists(in_clone) else value


def _named(value: object) -> object:
    """The inverse of `_found`: name a file by its path in the clone; outside of the clone, by its name alone."""
    if isinstance(value, list):
        return [_named(item) for item in value]
    path = os.path.realpath(str(value))
    if not os.path.exists(path):
        return value
    return os.path.relpath(path, _CLONE) if path.startswith(f"{_CLONE}{os.sep}") else os.path.basename(path)


def _check_samples(options: "Sequence[DataclassInstance]") -> None:
    """Refuse a bundled recipe's sample data where there is no clone that holds it."""
    for part in options:
        for name in _PATHS:
            values = getattr(part, name, None) or ()
            for value in [values] if isinstance(values, str) else values:
                if value.startswith(_SAMPLES) and not os.path.exists(value):
                    raise ValueError(f"{value}: lies in a clone of hf_encoders, and this is none; give --{name}")


def _named_data(options: "Sequence[DataclassInstance]") -> list[str]:
    """The data sets of a run; ValueError if none is given."""
    names: list[str] = []
    for part in options:
        for one in fields(part):
            if one.name == _DATASET:
                given = getattr(part, _DATASET) or []
                names += [given] if isinstance(given, str) else given
                if not any(names):
                    raise ValueError(f"no data: give --{_DATASET} ({one.metadata['help']})")
    return names


def _check_data(names: Sequence[str]) -> None:
    """Refuse files that are not there, before a model is downloaded for them. Ids on the Hub are not looked up."""
    for name in names:
        check_data_name(name)
        if os.path.isdir(name) and not any(files for _, _, files in os.walk(name)):
            raise ValueError(f"{name}: no data: this folder holds no file")


def _check_models(options: "Sequence[DataclassInstance]") -> None:
    """Refuse models and tokenizers whose names are paths where nothing is. Ids on the Hub are not looked up."""
    for part in options:
        for name in _MODELS:
            if value := getattr(part, name, ""):
                check_path_or_id(value)


def _read_json(options: "DataclassInstance") -> None:
    """Replace the JSON of flags by what it holds; YAML gives mappings."""
    import json

    for name in _SETTINGS:
        value = getattr(options, name, None)
        if isinstance(value, str):
            try:
                setattr(options, name, json.loads(value))
            except ValueError:
                raise ValueError(f'--{name} {value}: expected JSON such as {{"a": 1}}') from None
