"""Which of several networks in a file is meant: by what papers evaluate, or nobody can tell."""

import re
from collections.abc import Collection, Sequence

from ...plurals import counted
from ..errors import AmbiguousWeightsError
from .averages import is_average
from .left_overs import is_of_a_loss
from .networks import Network
from .wrappers import WRAPPERS

# Keys of state dicts, the most telling ones first.
_NAMES = ("model_state_dict", "state_dict", "model", "net", "network", "module", "weights", "encoder_state_dict")
_TEACHER = re.compile(r"teacher", re.IGNORECASE)
_MOST_LISTED = 8


def best(path: object, networks: Sequence[Network], preferred: Sequence[str], alone: Collection[str]) -> Network:
    """The network that is meant.

    Weights come before their averages, so that online and query encoders come before target and key encoders. Whole
    networks come before parts of one, telling names before others, and the first before the next. Of the families in
    `alone`, the teacher of self-distillation comes before its student, because DINO, DINOv2 and iBOT evaluate it, and a
    loss's network comes last.

    Args:
        path: the file, for errors.
        networks: of the file; one at least.
        preferred: the families that are asked for; without any of those, the others.
        alone: families of which position in the file tells nothing.

    Raises:
        AmbiguousWeightsError: if several networks of such families are as good, or are of different families, or if
            the one that there is belongs to a loss.
    """
    asked_for = [network for network in networks if network.family in preferred] or list(networks)
    distilled = [network for network in asked_for if network.family in alone]
    ranks = {id(network): _rank(network, asked_for, distilled) for network in asked_for}
    first = min(asked_for, key=lambda network: (*ranks[id(network)], network.numbers[0]))
    if first.family in alone and is_of_a_loss(first.path):
        raise AmbiguousWeightsError(
            f"{path}: the only known network in it is part of a loss: {first.path} ({first.family},"
            f" {counted(len(first.members), 'tensor')}); if it is meant, take it with --weights PATH"
        )
    rivals = [
        other
        for other in asked_for
        if other is not first
        and not (is_of_a_loss(other.path) and other.family in alone)
        and (ranks[id(other)] == ranks[id(first)] or (other.family != first.family and not _follows(other, distilled)))
    ]
    if rivals and first.family in alone:
        listed = [f"{one.path} ({one.family}, {counted(len(one.members), 'tensor')})" for one in (first, *rivals)]
        more = f" and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
        raise AmbiguousWeightsError(
            f"{path}: holds several networks, and nothing tells which is meant: {', '.join(listed[:_MOST_LISTED])}"
            f"{more}; take one with --weights PATH"
        )
    return first


def reason(network: Network, networks: Sequence[Network], alone: Collection[str]) -> str:
    """Why a network was taken before one that a training made together with it; empty without such a one."""
    if network.family in alone and (student := _student(network, networks)) is not None:
        return f"took the teacher, not the student at {student.path}: papers on self-distillation evaluate the teacher"
    return ""


def _rank(network: Network, networks: Sequence[Network], distilled: Sequence[Network]) -> tuple[object, ...]:
    # A student may be much smaller than the network that taught it.
    whole = [other for other in networks if other.family == network.family and _pair(other, networks) is None]
    largest = max((len(other.members) for other in whole), default=0)
    names = [_NAMES.index(key) for key in network.path.split(".") if key in _NAMES]
    return (
        any(network is one for one in distilled) and is_of_a_loss(network.path),
        2 * len(network.members) < largest,  # a part of a network, such as its pretrained beginning
        _follows(network, distilled),
        min(names, default=len(_NAMES)),
    )


def _follows(network: Network, distilled: Sequence[Network]) -> bool:
    """Whether another network is evaluated instead of this one: averages, and students of self-distillation."""
    if any(_student(other, distilled) is network for other in distilled):
        return True
    is_teacher = any(network is one for one in distilled) and _student(network, distilled) is not None
    return is_average(network.path) and not is_teacher


def _student(teacher: Network, networks: Sequence[Network]) -> Network | None:
    """The student of a teacher by self-distillation, which has the same sizes.

    A teacher of other sizes is a larger network, from which a smaller one learned that is meant to be used.
    """
    student = _pair(teacher, networks)
    return student if student is not None and _sizes(student) == _sizes(teacher) else None


def _pair(teacher: Network, networks: Sequence[Network]) -> Network | None:
    """What learned from a teacher: the network at the same path but for that word."""
    if not _TEACHER.search(teacher.path):
        return None
    wanted = _TEACHER.sub("student", _plain(teacher.path)).lower()
    return next((other for other in networks if _plain(other.path).lower() == wanted), None)


def _sizes(network: Network) -> dict[str, tuple[int, ...]]:
    return {member.name: member.weight.shape for member in network.members if member.matches}


def _plain(path: str) -> str:
    return ".".join(part for part in path.split(".") if part not in WRAPPERS)
