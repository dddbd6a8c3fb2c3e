"""What stays of a recipe where flags name another model."""

from collections.abc import Collection, Mapping
from typing import TypeVar

Value = TypeVar("Value")
_CONFIG = "model_config"


def without_its_model(
    recipe: Mapping[str, Value],
    given: Collection[str],
    instead: Mapping[str, Collection[str]],
    parts: Collection[str],
    towers: Mapping[str, str],
) -> dict[str, Value]:
    """A recipe without its model, where flags say in another way what is trained.

    Its tokenizer and processors go too: they were made for the recipe's model, and not for the one that is given.

    A flag that names the one tower which the recipe's `model_config` leaves out completes the recipe's model.

    Args:
        recipe: option → value.
        given: the names of the flags.
        instead: flag → the options of a recipe that say in another way what is trained.
        parts: the options that belong to a model, such as "tokenizer".
        towers: flag → what `model_config` calls the tower that it names.
    """
    described = recipe.get(_CONFIG)
    completing = {flag for flag, name in towers.items() if isinstance(described, dict) and name not in described}
    displaced = {name for flag in given if flag not in completing for name in instead.get(flag, ()) if recipe.get(name)}
    return {name: value for name, value in recipe.items() if not (displaced and (name in displaced or name in parts))}
