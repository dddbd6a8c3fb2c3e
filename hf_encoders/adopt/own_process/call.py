"""How a class is called: its arguments, checked against its signature before anything is built."""

import dataclasses
import importlib.util
import inspect
import json
import keyword
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from .refused import Refused

Settings = Callable[[Mapping[str, object]], object]


def settings_class(file: str) -> Settings:
    """The class of one object of settings, from its file."""
    spec = importlib.util.spec_from_file_location("_hf_encoders_settings", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Settings = module.Settings
    return made


class Call:
    """A call of a class.

    Args:
        cls: the class.
        given: its arguments by name; or what one object of settings holds, where the constructor takes one.
        loose: arguments that the class need not take.
        settings: makes such an object of a dictionary.

    Attributes:
        arguments: by name, as JSON holds them.
        makers: argument → the dataclass of the class's file that is made of it.

    Raises:
        Refused: if the class has no such argument, or needs another one.
    """

    def __init__(self, cls: type[nn.Module], given: dict[str, Any], loose: list[str], settings: Settings):
        self.cls, self.settings, self.loose = cls, settings, loose
        self.makers: dict[str, str] = {}
        try:
            self.parameters = [*inspect.signature(cls).parameters.values()]
        except (TypeError, ValueError):
            self.parameters = []
        self.arguments = self._with_dataclasses(self._whole(given))
        self._check()
        self._order = self._with_defaults()
        try:  # both processes get what JSON holds: lists for tuples
            self.arguments = json.loads(json.dumps(self.arguments))
        except (TypeError, ValueError) as error:
            raise Refused(f"{cls.__name__}: JSON does not hold its arguments ({error})") from None

    def _whole(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name; all of them are one, where the constructor takes one object of settings."""
        named = [one for one in self.parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        required = [one for one in named if one.default is one.empty] or named
        takes_any = any(one.kind is one.VAR_KEYWORD for one in self.parameters)
        if given and len(required) == 1 and not takes_any and not set(given) & {one.name for one in self.parameters}:
            is_settings = required[0].default in (required[0].empty, None) or dataclasses.is_dataclass(
                self._dataclass(required[0].name)
            )
            return {required[0].name: given} if is_settings else given
        return given

    def _with_dataclasses(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with all fields of those that are dataclasses."""
        found = dict(arguments)
        for name, value in arguments.items():
            kind = self._dataclass(name)
            if kind is None or not isinstance(value, dict):
                continue
            try:
                made = _instance(kind, value)
            except TypeError as error:
                raise Refused(f"{self.cls.__name__}: its {kind.__name__} refuses the arguments ({error})") from None
            fields = dataclasses.fields(made)
            found[name] = dataclasses.asdict(made)
            nested = any(dataclasses.is_dataclass(getattr(made, field.name)) for field in fields)
            in_file = vars(sys.modules[self.cls.__module__]).items()
            maker = next((own for own, value in in_file if value is kind), None)
            if maker and not nested:  # else an object of settings takes its place
                self.makers[name] = maker
                found[name] = {field.name: found[name][field.name] for field in fields if field.init}
        return found

    def _dataclass(self, name: str) -> type[Any] | None:
        """The dataclass that a parameter is annotated with, if it is one."""
        return _dataclasses(self.cls.__init__).get(name)

    def _check(self) -> None:
        names = [one.name for one in self.parameters if one.kind is not one.VAR_KEYWORD]
        takes_any = any(one.kind is one.VAR_KEYWORD for one in self.parameters)
        needed = [one.name for one in self.parameters if one.default is one.empty
                  and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]  # fmt: skip
        unknown = [name for name in self.arguments if name not in names and not takes_any]
        for name in {*unknown} & {*self.loose}:  # what a checkpoint says of its training too
            del self.arguments[name]
        if odd := [name for name in self.arguments if not name.isidentifier() or keyword.iskeyword(name)]:
            raise Refused(f"{self.cls.__name__}: {odd[0]!r} is no name of an argument")
        if unknown := [name for name in unknown if name not in self.loose]:
            raise Refused(f"{self.cls.__name__} has no argument {unknown[0]!r}; it takes {', '.join(names) or 'none'}")
        if missing := [name for name in needed if name not in self.arguments]:
            raise Refused(f"{self.cls.__name__} needs the argument {missing[0]!r}; give it in --kwargs")
        for one in self.parameters:
            if one.kind is one.VAR_POSITIONAL and not isinstance(self.arguments.get(one.name, []), list):
                raise Refused(f"{self.cls.__name__}: the argument {one.name!r} is a list: the class takes *{one.name}")

    def _with_defaults(self) -> list[list[str]]:
        has_more = any(one.kind is one.VAR_POSITIONAL and one.name in self.arguments for one in self.parameters)
        found = []
        for one in self.parameters:
            is_given = one.name in self.arguments
            if not is_given and one.default is not one.empty and _is_plain(one.default):
                self.arguments[one.name] = one.default
            if one.name in self.arguments:
                by_place = one.kind is one.POSITIONAL_ONLY or (has_more and one.kind is one.POSITIONAL_OR_KEYWORD)
                how = "more" if one.kind is one.VAR_POSITIONAL else "place" if by_place else "name"
                found.append([one.name, how])
            elif has_more and one.kind is one.POSITIONAL_OR_KEYWORD:
                raise Refused(
                    f"{self.cls.__name__}: give {one.name!r} too: it stands before the items of *, by its place"
                )
        known = {name for name, _ in found}
        return found + [[name, "name"] for name in self.arguments if name not in known]

    @property
    def order(self) -> list[list[str]]:
        """Each argument that is given or has a plain default: its name, and how it is passed."""
        return self._order

    def make(self) -> nn.Module:
        """Call the class."""
        places: list[object] = []
        names: dict[str, object] = {}
        for name, how in self._order:
            value = self.arguments[name]
            if name in self.makers:
                value = getattr(sys.modules[self.cls.__module__], self.makers[name])(**value)
            elif isinstance(value, dict):
                value = self.settings(value)
            if how == "name":
                names[name] = value
            else:
                places += self.arguments[name] if how == "more" else [value]
        return self.cls(*places, **names)


def _dataclasses(annotated: object) -> dict[str, type[Any]]:
    """The dataclasses that parameters or fields are annotated with, by name."""
    try:
        hints = typing.get_type_hints(annotated)
    except Exception:  # names that are there for type checkers alone
        return {}
    kinds = {name: (hint, *typing.get_args(hint)) for name, hint in hints.items()}
    return {
        name: kind
        for name, options in kinds.items()
        for kind in options
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }


def _instance(kind: type[Any], value: Mapping[str, Any]) -> Any:
    """A dataclass of its fields, and of those of the dataclasses within."""
    inner = _dataclasses(kind)
    made = {
        name: _instance(inner[name], one) if name in inner and isinstance(one, dict) else one
        for name, one in value.items()
    }
    return kind(**made)


def _is_plain(value: object) -> bool:
    """Whether JSON holds a value and gives it back as it was."""
    return value is None or isinstance(value, (bool, int, float, str))
