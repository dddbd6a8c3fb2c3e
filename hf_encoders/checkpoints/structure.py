"""Walks what a file holds without recursion: it may contain itself, and hold one object in many places."""

from collections.abc import Iterator
from pathlib import Path

from .checkpoint import Stub
from .errors import CheckpointError

# Whoever prints, copies or writes what is nested recurses. Python's own pickle ends at about 500 objects in objects.
_MOST_LEVELS = 300
_CONTAINERS = (dict, list, tuple, set, frozenset, Stub)


def children(value: object) -> Iterator[object]:
    """What a container or stub holds, keys included; nothing for all other values."""
    if isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, Stub):
        yield from (value.arguments, value.keywords, value.state, value.items, value.entries)


def walk(content: object) -> Iterator[object]:
    """Everything that a content holds, each container and stub once."""
    seen, waiting = set[int](), [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _CONTAINERS):
            if id(value) in seen:
                continue
            seen.add(id(value))
            waiting.extend(children(value))
        yield value


def check_depth(path: Path, content: object) -> None:
    """Refuse what is nested so deeply that other code would not get to its end.

    Raises:
        CheckpointError: if it is.
    """
    seen, open_containers = set[int](), [iter((content,))]
    while open_containers:
        for value in open_containers[-1]:
            if isinstance(value, _CONTAINERS) and id(value) not in seen:
                seen.add(id(value))
                open_containers.append(children(value))
                break
        else:
            open_containers.pop()
        if len(open_containers) > _MOST_LEVELS:
            raise CheckpointError(
                f"{path}: holds more than {_MOST_LEVELS} objects nested in each other, as no checkpoint does; it is"
                " refused"
            )
