"""The caption of a row: from its column of captions, or made of its other columns by templates."""

import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Features, LargeList, List

_VOWELS = tuple("aeiou")


class Template(string.Formatter):
    """A caption with the names of columns in braces, such as "{color!a} {name}" or "a {objects[0][name]}".

    Columns of classes are filled in by name. `!a` puts "a" or "an" before a value. `!h` takes the last of its words,
    the head of an English noun: "outdoor lamp" is a "lamp". Only values of the row can be named: a template reads no
    attributes.

    Args:
        text: the template.

    Raises:
        ValueError: if it names no column, or cannot be read.
    """

    def __init__(self, text: str):
        self.text = text
        try:
            fields = [field for _, field, _, _ in self.parse(text) if field is not None]
        except ValueError as error:
            raise ValueError(f"the template {text!r}: {error}") from None
        if not fields or any(_first_name(field) == "" or "." in field for field in fields):
            raise ValueError(
                f"the template {text!r}: name columns in braces, such as 'a {{label}}' or '{{objects[0][name]}}'"
            )
        self.columns = list(dict.fromkeys(map(_first_name, fields)))

    def fill(self, values: Mapping[str, Any]) -> str | None:
        """The caption of a row, or of an object in it; None where it lacks a value."""
        try:
            filled = self.vformat(self.text, (), values)
        except (LookupError, TypeError):  # no such object in this row, or nothing where a value is named
            return None
        return filled if filled.strip() else None

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        """Find a value; one that is empty is none."""
        value, name = super().get_field(field_name, args, kwargs)
        if value is None or value == "":
            raise LookupError(field_name)
        return value, str(name)

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        """`!a`: with "a" or "an" before it; `!h`: the last word."""
        if conversion == "a":
            return with_article(str(value))
        return str(value).split()[-1] if conversion == "h" else super().convert_field(value, conversion or None)


class Captions:
    """Chooses the caption of a row among its own and those that templates make of its columns.

    Args:
        column: a text, or a list of texts.
        templates: each is one caption more, in rows that have all its values.
        features: the columns of the rows, for the names of classes.
    """

    def __init__(self, column: str, templates: Sequence[str] = (), features: Features | None = None):
        self.column = column
        self._templates = [Template(text) for text in templates]
        self._classes = ClassNames(features)

    def __call__(self, row: Mapping[str, Any], rng: np.random.Generator) -> str:
        """One of the captions, each as likely as another.

        Raises:
            TypeError: if it is no text.
        """
        given = row[self.column]
        captions = [given] if isinstance(given, str) else list(given)
        if self._templates:
            named = self._classes.named(row)
            captions += [made for template in self._templates if (made := template.fill(named)) is not None]
        caption = captions[rng.integers(len(captions))] if not isinstance(given, str) or self._templates else given
        if not isinstance(caption, str):
            raise TypeError(f"{caption!r} in column {self.column!r}, expected a caption")
        return caption


class ClassNames:
    """Puts names in the place of the numbers of classes, also in lists and records."""

    def __init__(self, features: Features | None):
        self._features: Mapping[str, Any] = features or {}

    def named(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with the names of its classes; a class without a name is None."""
        return {column: _named(value, self._features.get(column)) for column, value in row.items()}


def check_values(features: Features | None, objects: str, values: Iterable[str], option: str) -> None:
    """Refuse values that the objects of a column do not have, where the type of the column tells.

    Raises:
        ValueError: naming the option, the value and those that there are.
    """
    feature = (features or {}).get(objects)
    inner = getattr(feature, "feature", None)
    if not isinstance(inner, Mapping):
        return
    for value in values:
        if value not in inner:
            raise ValueError(f"{option}: the objects in column {objects!r} have no {value!r}, but {', '.join(inner)}")


def columns_of_templates(templates: Sequence[str]) -> list[str]:
    """The columns that templates name.

    Raises:
        ValueError: if one of them is no template, see `Template`.
    """
    return list(dict.fromkeys(column for text in templates for column in Template(text).columns))


def with_article(words: str) -> str:
    """The words with "a" or "an" before them: "an orange bed"."""
    return f"{'an' if words.lower().startswith(_VOWELS) else 'a'} {words}"


def _named(value: Any, feature: object) -> Any:
    if value is None:
        return None
    if isinstance(feature, ClassLabel):
        names = feature.names
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
    if isinstance(feature, Mapping) and isinstance(value, Mapping):
        return {name: _named(inner, feature.get(name)) for name, inner in value.items()}
    if isinstance(feature, (List, LargeList)) and isinstance(value, list):
        return [_named(inner, feature.feature) for inner in value]
    return value


def _first_name(field: str) -> str:
    return field.partition("[")[0].partition(".")[0]
