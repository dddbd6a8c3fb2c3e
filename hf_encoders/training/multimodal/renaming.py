"""Other words for the objects that a caption names: the last word of a name, a category, a hypernym."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Features

from .arguments import DataArguments
from .captions import ClassNames, Template, check_values, with_article


class Renaming:
    """Says some of the names in a caption in other words, so that a model learns more than the names of a data set.

    Args:
        column: lists of objects and what their name is called, such as "objects.name".
        words: templates of values of an object, such as "{name!h}" or "{category}", of which it takes one; see
            `Template`.
        share: how many of the names are said otherwise.
        features: the columns of the rows, for the names of classes.

    Raises:
        ValueError: if the column has no name of names, a text is no template, an object has no such value,
            or the share is none.
    """

    def __init__(self, column: str, words: Sequence[str], share: float, features: Features | None = None):
        self._objects, _, self._name = column.partition(".")
        if not self._name:
            raise ValueError(f"--names_column {column}: give the objects and what their name is called: objects.name")
        if not 0 < share <= 1:
            raise ValueError(f"--rename_share {share}: expected a share above 0, and at most 1")
        self._templates, self._share, self._classes = list(map(Template, words)), share, ClassNames(features)
        check_values(features, self._objects, [self._name], f"--names_column {column}")
        named = (name for template in self._templates for name in template.columns)
        check_values(features, self._objects, named, "--rename_as")

    def __call__(self, caption: str, row: Mapping[str, Any], rng: np.random.Generator) -> str:
        """The caption with some names in other words; "a" and "an" before them follow."""
        objects = self._classes.named({self._objects: row[self._objects]})[self._objects] or []
        others: dict[str, str] = {}
        for item in objects:
            name, other = str(item[self._name]), None
            if rng.random() < self._share:
                other = self._templates[rng.integers(len(self._templates))].fill(item)
            others[name.lower()] = other or name
        if not others:
            return caption
        # The longest first: a "table" is none in a "table lamp".
        names = "|".join(map(re.escape, sorted(others, key=len, reverse=True)))

        def other_words(match: "re.Match[str]") -> str:
            article, name = match[1], others[match[2].lower()]
            if name.lower() == match[2].lower():
                return match[0]
            return name if article is None else with_article(name)

        return re.sub(rf"\b(?:(an?) )?({names})\b", other_words, caption, flags=re.IGNORECASE)


def make_renaming(options: DataArguments, features: Features | None = None) -> Renaming | None:
    """The other words that the options ask for.

    Raises:
        ValueError: if they ask for a part of it only, see `Renaming`.
    """
    if not options.names_column:
        if options.rename_as:
            raise ValueError("--rename_as is for the names in --names_column, which is not given")
        return None
    if not options.rename_as:
        raise ValueError("--names_column needs --rename_as, such as '{name!h}'")
    return Renaming(options.names_column, options.rename_as, options.rename_share, features)
