"""Options as dataclasses: their fields, parsed from a command line.

It reads dataclasses as transformers' HfArgumentParser does, whose import takes seconds.
"""

import argparse
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from typing import TYPE_CHECKING, Any, get_args, get_origin

from ..command_line import HelpFormatter, OneLineArgumentParser

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Names and values: a mapping in YAML, and JSON on the command line.
Settings = dict[str, Any] | str | None

_BOOLS = {
    **dict.fromkeys(("yes", "true", "t", "y", "1"), True),
    **dict.fromkeys(("no", "false", "f", "n", "0"), False),
}


def option(default: object, text: str, **metadata: object) -> Any:
    """A field of a dataclass, with its help and choices."""
    metadata = {"help": text, **metadata}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def as_mapping(option: str, settings: Settings) -> dict[str, Any]:
    """The names and values of an option; empty if it was not given.

    Raises:
        ValueError: if it is no mapping.
    """
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ValueError(f'--{option} {settings}: expected names and values, such as {{"a": 1}}')
    return settings


class _Formatter(HelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Help with defaults."""


class OptionParser(OneLineArgumentParser):
    """Parses the fields of dataclasses, each as an option of its name and type.

    A list takes one value or more, a bool none or one; `--no_NAME` turns off a bool that is on by default.

    Args:
        kinds: the dataclasses. Their fields are made by `option`.
        description: of the command, for --help.
        prog: how a person calls the command.
        usage: the words after that. Without them it takes a screen to name all options, which the help lists below.
    """

    def __init__(
        self,
        kinds: "Sequence[type[DataclassInstance]]",
        description: str,
        prog: str | None = None,
        usage: str = "[--OPTION VALUE ...]",
    ):
        super().__init__(prog=prog, usage=f"%(prog)s {usage}", description=description, formatter_class=_Formatter)
        self._kinds = tuple(kinds)
        for kind in kinds:
            for one in fields(kind):
                self._add_field(one)

    def parse(self, argv: Sequence[str]) -> "tuple[DataclassInstance, ...]":
        """The dataclasses that the words of a command line make."""
        given = vars(self.parse_args(argv))
        return tuple(kind(**{one.name: given[one.name] for one in fields(kind)}) for kind in self._kinds)

    def _add_field(self, one: "Field[Any]") -> None:
        default = one.default if one.default_factory is MISSING else one.default_factory()
        settings: dict[str, Any] = dict(one.metadata)
        if one.type is bool:
            self._add(one.name, type=_bool, nargs="?", const=True, default=default, **settings)
            if default:
                self._add(f"no_{one.name}", action="store_false", dest=one.name, **settings | {"default": False})
            return
        if get_origin(one.type) is list:
            settings["nargs"] = "+"
        self._add(one.name, type=_type_of_values(one.type), default=default, **settings)

    def _add(self, name: str, **settings: Any) -> None:
        """Add an option that is parsed in both spellings; --help and errors use the one of the recipes."""
        names = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        self.add_argument(*names, **settings).option_strings = [f"--{name}"]


def _type_of_values(kind: Any) -> type:
    """The type that a value's text becomes: of a list that of its items, of a union with text that text."""
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return _type_of_values(item)
    if isinstance(kind, types.UnionType):
        kinds = [one for one in get_args(kind) if one is not type(None)]
        return str if str in kinds else _type_of_values(kinds[0])
    return kind


def _bool(text: str) -> bool:
    if text.lower() not in _BOOLS:
        raise argparse.ArgumentTypeError(f"expected yes or no, got {text!r}")
    return _BOOLS[text.lower()]
