"""Walks through everything that a file holds: its tensors with their places, and the states of its training."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..checkpoint import Stub
from ..errors import CheckpointError
from .modules import attributes, children, is_module
from .weights import Weight, as_weight

# Keys of what belongs to a training and not to a network: optimizers, schedulers, scalers, random generators.
_TRAINING_KEY = re.compile(
    r"(^|_)(optim(izers?)?|optim\w*_(state|dict)\w*|(lr_?)?sched(uler)?s?|(grad_?|loss_?)?scalers?|rngs?|random)"
    r"(_?(states?|dict|state_dicts?|generator))*$",
    re.IGNORECASE,
)
# A file may hold one part in many places, and each place is visited. Files that were made to have no end exceed this.
_MOST_TENSORS = 100_000
_MOST_VISITS = 2_000_000

Keys = tuple[str, ...]


@dataclass(frozen=True)
class FoundTensor:
    """A tensor of a file.

    Args:
        keys: the keys on the way to it, the last one its own.
        weight: the tensor.
        root: the keys of the dictionary that holds it; of the whole object, for a tensor within a pickled one.
        raw_key: its own key as the file has it, where `keys` say another (see `averages`).
    """

    keys: Keys
    weight: Weight
    root: Keys = ()
    raw_key: str = ""


@dataclass(frozen=True)
class TrainingState:
    """The state of an optimizer, a scheduler or a random generator.

    Args:
        keys: the keys on the way to it.
        value: the state, as the file has it.
        is_optimizer: whether it is an optimizer's state dict: `state` and `param_groups`.
        tensors: the number of its tensors.
        nbytes: the bytes of their values.
    """

    keys: Keys
    value: object
    is_optimizer: bool
    tensors: int
    nbytes: int


@dataclass
class Survey:
    """What a file holds.

    Args:
        tensors: in the order of the file, without those of `states`.
        states: of the training.
        plain: keys of what is no tensor, and lies beside tensors.
        circles: keys of containers that contain themselves, and of what is a module or holds tensors and leads back.
    """

    tensors: list[FoundTensor] = field(default_factory=list)
    states: list[TrainingState] = field(default_factory=list)
    plain: list[Keys] = field(default_factory=list)
    circles: list[Keys] = field(default_factory=list)


def survey(path: object, content: object) -> Survey:
    """Walk through the content of a file, without recursion.

    Args:
        path: the file, for errors.
        content: what it holds.

    Raises:
        CheckpointError: if it refers to its own parts so often that it has no end.
    """
    found = Survey()
    if (weight := as_weight(content)) is not None:
        found.tensors.append(FoundTensor(("",), weight))
        return found
    if _add_state(found, (), content):
        return found
    empty: set[int] = set()  # containers without tensors, which need no second visit
    visits, seen = 0, {id(content)}
    stack = [_Place((), content)]
    inside: dict[int, Keys] = {id(content): ()}
    while stack:
        place = stack[-1]
        step = next(place.parts, None)
        if step is None:
            stack.pop()
            del inside[id(place.value)]
            _leave(found, place, empty)
            continue
        visits += place.is_again
        if visits > _MOST_VISITS or len(found.tensors) > _MOST_TENSORS:
            raise CheckpointError(f"{path}: refers to its own parts millions of times; it was made to have no end")
        key, value = step
        weight = as_weight(value)
        if weight is None and not isinstance(value, (dict, list, tuple, Stub)):
            if isinstance(key, str):
                place.plain.append((*place.keys, key))
            continue
        if not isinstance(key, (str, int)):  # no name of a tensor has such a key
            continue
        keys = (*place.keys, str(key))
        if weight is not None:
            found.tensors.append(FoundTensor(keys, weight, place.root))
            place.holds_tensors = True
        elif id(value) in inside:
            found.circles.append(inside[id(value)])
            place.circles.append(keys)
        elif id(value) in empty or _add_state(found, keys, value):
            place.plain.append(keys)
        else:
            inside[id(value)] = keys
            root = place.root if place.in_object else keys
            stack.append(_Place(keys, value, root, place.in_object, len(found.tensors), id(value) in seen))
            seen.add(id(value))
    return found


class _Place:
    """A container on the way to where the walk is."""

    def __init__(
        self,
        keys: Keys,
        value: object,
        root: Keys = (),
        in_object: bool = False,
        before: int = 0,
        is_again: bool = False,
    ):
        self.keys, self.value, self.before, self.root, self.is_again = keys, value, before, root, is_again
        self.in_object = in_object or isinstance(value, Stub)
        self.parts: Iterator[tuple[object, object]] = iter(children(value))
        self.plain: list[Keys] = []
        self.circles: list[Keys] = []
        self.holds_tensors = False


def _leave(found: Survey, place: _Place, empty: set[int]) -> None:
    if len(found.tensors) == place.before:
        empty.add(id(place.value))
    if place.holds_tensors or is_module(place.value):
        found.circles += place.circles
    if place.holds_tensors and not is_module(place.value):
        found.plain += place.plain


def _add_state(found: Survey, keys: Keys, value: object) -> bool:
    """Whether a value is a state of the training; it is added then."""
    if not isinstance(value, (dict, list, tuple, Stub)) or is_module(value):
        return False
    parts = attributes(value) if isinstance(value, Stub) else value
    is_optimizer = isinstance(parts, dict) and "param_groups" in parts and "state" in parts
    if not is_optimizer and not (keys and _TRAINING_KEY.search(keys[-1])):
        return False
    if not is_optimizer and any(is_module(part) for _, part in children(value)):
        return False
    inner = [value] if is_optimizer else _optimizers_in(value)
    for number, state in enumerate(inner):
        its_keys = keys if is_optimizer else (*keys, str(number))
        found.states.append(TrainingState(its_keys, state, True, *_size(state)))
    if not inner:
        found.states.append(TrainingState(keys, value, False, *_size(value)))
    return True


def _optimizers_in(value: object) -> list[object]:
    """The optimizers of a list of them, as PyTorch Lightning keeps them."""
    if not isinstance(value, (list, tuple)):
        return []
    return [item for item in value if isinstance(item, dict) and "param_groups" in item and "state" in item]


def _size(value: object) -> tuple[int, int]:
    """The number of tensors in a value, and their bytes."""
    seen: set[int] = set()
    waiting, tensors, nbytes = [value], 0, 0
    while waiting:
        item = waiting.pop()
        if (weight := as_weight(item)) is not None:
            tensors, nbytes = tensors + 1, nbytes + weight.nbytes
        elif isinstance(item, (dict, list, tuple, Stub)) and id(item) not in seen:
            seen.add(id(item))
            waiting += [part for _, part in children(item)]
    return tensors, nbytes
