"""What stays of a recipe where flags name another model."""

from collections.abc import Collection, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def without_its_model(
    recipe: Mapping[str, Value], given: Collection[str], instead: Mapping[str, Collection[str]], parts: Collection[str]
) -> dict[str, Value]:
    """A recipe without its model, where flags say in another way what is trained.

    Its tokenizer and processors go too: they were made for the recipe's model, and not for the one that is given.

    A flag that the recipe gives itself only has another value: the recipe's model is made of all its options together.

    Args:
        recipe: option → value.
        given: the names of the flags.
        instead: flag → the options of a recipe that say in another way what is trained.
        parts: the options that belong to a model, such as "tokenizer".
    """
    displaced = {name for flag in given if not recipe.get(flag) for name in instead.get(flag, ()) if recipe.get(name)}
    return {name: value for name, value in recipe.items() if not (displaced and (name in displaced or name in parts))}
