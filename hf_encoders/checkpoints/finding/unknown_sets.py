"""Tensors of no known family."""

import re
from collections.abc import Sequence

from .networks import Network, whole
from .survey import Keys, Survey

_PARAMETER = re.compile(r"(^|\.)(weight|bias|kernel|running_mean)$")
_MANY = 10  # tensors without telling names, as an average's list of parameters


def unknown_sets(found: Survey, networks: Sequence[Network]) -> list[Network]:
    """The tensors of no known network: those of each dictionary or pickled object together."""
    taken = {number for network in networks for number in network.numbers}
    roots: dict[Keys, list[int]] = {}
    for number, tensor in enumerate(found.tensors):
        if number not in taken:
            roots.setdefault(tensor.root, []).append(number)
    return [whole(found.tensors, numbers) for numbers in roots.values()]


def is_network(network: Network) -> bool:
    """Whether tensors of no known family are a network's, rather than figures that a training keeps."""
    return any(_PARAMETER.search(member.name) for member in network.members) or len(network.members) >= _MANY
