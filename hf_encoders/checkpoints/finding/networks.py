"""Finds networks among the tensors of a file, at any depth and below any prefix, by the names of their parts."""

import json
import re
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from .averages import with_dots
from .survey import FoundTensor, Keys
from .weights import Weight
from .wrappers import WRAPPERS, behind_wrappers

_MOST_PARTS = 40  # of a name; a longer one is no network's
# Keys under which parts of a network are saved apart, such as "encoder_state_dict", "text" and "visual_tower".
_PART_KEY = re.compile(
    r"(?:(encoder|decoder|(?:text|visual)_(?:encoder|projection))(?:_model)?|(text|visual)(?:_tower)?)"
    r"(?:_(?:state_dict|state|weights|params))?"
)


@dataclass(frozen=True)
class FamilyNames:
    """How the tensors of a family are named.

    Args:
        name: of the family, for people.
        pattern: matches the names of its tensors, whatever the last part is.
        marks: patterns of which each must match some name: what other networks do not have.
    """

    name: str
    pattern: re.Pattern[str]
    marks: tuple[re.Pattern[str], ...]


@dataclass(frozen=True)
class Member:
    """A tensor of a network.

    Args:
        name: its name below the network's prefix, without wrappers.
        key: its name in the file, below the network's container.
        weight: the tensor.
        matches: whether the family has such names.
    """

    name: str
    key: str
    weight: Weight
    matches: bool


@dataclass(frozen=True)
class Network:
    """Tensors that are named as those of a family.

    Args:
        family: its name; empty if the tensors are of none that is known.
        path: the dotted path to it, as `--weights` takes it. Keys with dots are quoted; "." is the top of the file.
        container: the keys of the dictionary or module that holds it.
        prefix: what its names in that container begin with, such as "module.".
        members: its tensors in the order of the file, and others below its prefix.
        numbers: their positions among the tensors of the file.
    """

    family: str
    path: str
    container: Keys
    prefix: str
    members: list[Member]
    numbers: list[int]


@dataclass(frozen=True)
class _Parts:
    """A tensor's keys, cut at their dots.

    Args:
        names: the parts.
        key_ends: for each part, the number of keys that end with it or before it.
        keys: the keys.
    """

    names: tuple[str, ...]
    key_ends: tuple[int, ...]
    keys: Keys

    def path(self, count: int) -> str:
        """The dotted path of the first parts; whole keys with dots are quoted."""
        whole = self.key_ends[count - 1] if count else 0
        first = [_quoted(key) for key in self.keys[:whole]]
        return ".".join([*first, *map(_quoted, self.names[_length(self.keys[:whole]) : count])])

    def name(self, start: int) -> str:
        """The name that the parts from one on make, without wrappers."""
        names = [_part_name(part) for part in self.names[start:] if part not in WRAPPERS]
        if len(names) > 1 and names[0] == names[1] and _PART_KEY.fullmatch(names[0]):
            del names[0]  # a part that was saved apart, with the names that it has in the whole
        return ".".join(names)


def find_networks(
    found: Sequence[FoundTensor], families: Sequence[FamilyNames], among: Container[int] | None = None
) -> list[Network]:
    """Find the networks of some families, in the order of the file.

    A tensor belongs to one network at most. A network takes everything below its prefix, so that a name that its family
    does not have is noticed.

    Args:
        found: the tensors of the file.
        families: the families, by their names.
        among: the positions of the tensors that are looked at; all by default.
    """
    tensors = with_dots(found)
    parts = [_parts(tensor.keys) for tensor in tensors]
    looked_at = [number for number in range(len(tensors)) if among is None or number in among]
    votes: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for number in looked_at:
        part = parts[number]
        for start in range(len(part.names)) if len(part.names) <= _MOST_PARTS else ():
            name = part.name(start)
            for family, its_names in enumerate(families):
                if its_names.pattern.fullmatch(name):
                    votes[family, part.path(start)].append((number, start))
    likely = {
        option: supporters for option, supporters in votes.items() if _has_marks(families[option[0]], parts, supporters)
    }
    supported: dict[int, list[int]] = defaultdict(list)  # tensor → the starts of its name in some network
    for supporters in likely.values():
        for number, start in supporters:
            supported[number].append(start)
    below = _below({path for _, path in likely}, parts)
    networks: list[Network] = []
    free = set(looked_at)
    for (family, path), supporters in sorted(likely.items(), key=_by_votes):
        left = [(number, start) for number, start in supporters if number in free]
        if not left or not _has_marks(families[family], parts, left):
            continue
        start = behind_wrappers([(parts[number].names, start) for number, start in left])
        own = {number for number, _ in supporters}
        # What fits better into another network below this prefix is left to it.
        numbers = [
            number
            for number in below[path]
            if number in free and (number in own or all(other <= start for other in supported[number]))
        ]
        network = _network(families[family], tensors, parts, numbers, left[0][0], start)
        free -= set(network.numbers)
        networks.append(network)
    return sorted(networks, key=lambda network: network.numbers[0])


def whole(found: Sequence[FoundTensor], numbers: Sequence[int]) -> Network:
    """Tensors of no known family, as a network: named from the first key in which they differ."""
    tensors = [found[number] for number in numbers]
    container = _common([tensor.keys[:-1] for tensor in tensors])
    members = [_member(tensor, _parts(tensor.keys), len(container), container, None) for tensor in tensors]
    return Network("", path_text(container), container, "", members, list(numbers))


def path_text(keys: Keys) -> str:
    """A dotted path; keys with dots are quoted, and "." is the top of the file."""
    return ".".join(map(_quoted, keys)) or "."


def plain_name(name: str) -> str:
    """A dotted name as a network's members have it: without wrappers, and parts by their usual names."""
    return _parts((name,)).name(0)


def _by_votes(option: tuple[tuple[int, str], list[tuple[int, int]]]) -> tuple[int, int, int]:
    """The order in which networks take their tensors: the largest first; of two equals, the one nearer to the top."""
    (family, path), supporters = option
    return -len(supporters), len(path), family


def _below(paths: Container[str], parts: Sequence[_Parts]) -> dict[str, list[int]]:
    """The tensors below each of some paths."""
    below: dict[str, list[int]] = defaultdict(list)
    for number, part in enumerate(parts):
        for count in range(min(len(part.names), _MOST_PARTS)):
            if (path := part.path(count)) in paths:
                below[path].append(number)
    return below


def _has_marks(family: FamilyNames, parts: Sequence[_Parts], supporters: Sequence[tuple[int, int]]) -> bool:
    names = [parts[number].name(start) for number, start in supporters]
    return all(any(mark.match(name) for name in names) for mark in family.marks)


def _network(
    family: FamilyNames,
    tensors: Sequence[FoundTensor],
    parts: Sequence[_Parts],
    candidates: Sequence[int],
    one: int,
    start: int,
) -> Network:
    """The network of those tensors that lie below the prefix that the first parts of one tensor make."""
    path = parts[one].path(start)
    numbers = [
        number for number in candidates if len(parts[number].names) > start and parts[number].path(start) == path
    ]
    fitting = [number for number in numbers if family.pattern.fullmatch(parts[number].name(start))]
    container = _common([tensors[number].keys[:-1] for number in fitting])
    below = _length(container)
    members = [_member(tensors[number], parts[number], start, container, family.pattern) for number in numbers]
    prefix = ".".join(parts[one].names[below:start])
    text = path_text(container) if below >= start else path
    return Network(family.name, text or ".", container, f"{prefix}." if prefix else "", members, numbers)


def _member(tensor: FoundTensor, part: _Parts, start: int, container: Keys, pattern: re.Pattern[str] | None) -> Member:
    name = part.name(start)
    keys = tensor.keys[len(container) :] if tensor.keys[: len(container)] == container else tensor.keys
    key = tensor.raw_key or ".".join(keys)
    return Member(name, key, tensor.weight, pattern is None or bool(pattern.fullmatch(name)))


def _common(keys: Sequence[Keys]) -> Keys:
    """The keys that all of some paths begin with."""
    first, last = min(keys), max(keys)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


def _parts(keys: Keys) -> _Parts:
    names = tuple(part for key in keys for part in key.split("."))
    return _Parts(names, tuple(_key_ends(keys)), keys)


def _part_name(part: str) -> str:
    """The name of a part of a network that was saved under a key of its own; any other part as it is."""
    if part[:1] not in "edtv" or not (match := _PART_KEY.fullmatch(part)):
        return part
    return match[1] or ("text_encoder" if match[2] == "text" else "visual_encoder")


def _length(keys: Keys) -> int:
    """The number of parts that keys have."""
    return sum(key.count(".") + 1 for key in keys)


def _key_ends(keys: Keys) -> Iterator[int]:
    for number, key in enumerate(keys):
        for _ in range(key.count(".")):
            yield number
        yield number + 1


def _quoted(key: str) -> str:
    """A key in a path: in quotes where it is empty or holds dots, quotes, markup or what cannot be printed."""
    if key and key.isprintable() and not set(key) & set('."<>'):
        return key
    return json.dumps(key, ensure_ascii=not key.isprintable()).replace("<", "\\u003c").replace(">", "\\u003e")
