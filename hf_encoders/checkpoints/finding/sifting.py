"""Takes out of a network's tensors what is no part of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .left_overs import is_left_over
from .networks import Member, Network
from .survey import Survey

# Last parts of names that are left over even where the family's pattern would take them.
_NEVER = ("total_ops", "total_params", "_extra_state")


@dataclass(frozen=True)
class Sifted:
    """A network's tensors, and what was among and beside them.

    Args:
        members: the tensors of the network.
        dropped: keys of what is no part of it.
        unused: patterns that left nothing out.
    """

    members: list[Member]
    dropped: list[str]
    unused: list[str]


def sift(found: Survey, networks: Sequence[Network], network: Network, ignore: Sequence[str]) -> Sifted:
    """Tell a network's tensors from what else its container holds.

    Args:
        found: the whole file.
        networks: the networks that were found in it, which are not dropped.
        network: the one to sift.
        ignore: patterns of keys to leave out, as `fnmatch` reads them.
    """
    members: list[Member] = []
    dropped: list[str] = []
    used: set[str] = set()
    for member in network.members:
        names = (member.name, member.key, f"{network.path}.{member.name}")
        matching = {pattern for pattern in ignore if any(fnmatchcase(name, pattern) for name in names)}
        used |= matching
        is_foreign = is_left_over(member.name) and not member.matches
        if matching or is_foreign or member.name.rpartition(".")[2] in _NEVER:
            dropped.append(member.key)
        else:
            members.append(member)
    length = len(network.container)
    taken = {number for one in [*networks, network] for number in one.numbers}
    beside = [
        tensor.raw_key or ".".join(tensor.keys[length:])
        for number, tensor in enumerate(found.tensors)
        if number not in taken and tensor.keys[:length] == network.container and (length or "." in tensor.keys[0])
    ]
    plain = [
        ".".join(keys[length:])
        for keys in found.plain
        if keys[:length] == network.container and (length or "." in keys[0])
    ]
    used |= {pattern for pattern in ignore if any(fnmatchcase(key, pattern) for key in (*beside, *plain))}
    return Sifted(members, dropped + beside + plain, [pattern for pattern in ignore if pattern not in used])
