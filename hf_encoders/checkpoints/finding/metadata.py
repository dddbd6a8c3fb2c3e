"""What a file says beside its weights, and which pickled module holds them."""

from collections.abc import Collection

from ..checkpoint import Stub
from .modules import attributes, children, is_module
from .survey import Keys
from .weights import as_weight

_DEEPEST = 16  # keys; what is cut out lies near the top


def metadata_without(content: object, excluded: Collection[Keys]) -> dict[str, object]:
    """What a file holds, without some of its parts.

    Args:
        content: what the file holds.
        excluded: the keys on the way to each part that is left out.

    Returns:
        Key → value at the top of the file; values without excluded parts are those of the file.
    """
    if isinstance(content, Stub) and is_module(content):
        return _settings(content)
    if as_weight(content) is not None:
        return {}
    cut = _without(content, [keys[:_DEEPEST] for keys in excluded])
    return cut if isinstance(cut, dict) else {}


def top_module(content: object, keys: Keys) -> Stub | None:
    """The first pickled module on the way to a place in a file."""
    value = content
    for key in (*keys, None):
        if isinstance(value, Stub) and is_module(value):
            return value
        if key is None:
            return None
        value = next((part for name, part in children(value) if str(name) == key), None)
    return None


def _settings(module: Stub) -> dict[str, object]:
    """What a pickled module keeps beside its parts, such as the `config` of a model of transformers."""
    return {
        str(name): value
        for name, value in attributes(module).items()
        if isinstance(name, str) and not name.startswith("_") and name != "training" and as_weight(value) is None
    }


def _without(value: object, excluded: list[Keys]) -> object:
    if not excluded:
        return value
    cut: dict[str, object] = {}
    if isinstance(value, Stub):
        cut = {"__class__": value.name, **(_settings(value) if is_module(value) else {})}
    below: dict[str, list[Keys]] = {}
    for keys in excluded:
        if keys:
            below.setdefault(keys[0], []).append(keys[1:])
    for key, part in children(value):
        rest = below.get(str(key), [])
        if () in rest:
            if isinstance(part, Stub) and is_module(part) and (settings := _settings(part)):
                cut[str(key)] = settings
            continue
        left = _without(part, rest)
        if not rest or left:  # what held weights alone says nothing more
            cut[str(key)] = left
    return cut
