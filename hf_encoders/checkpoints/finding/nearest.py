"""What is said of a file in which no network of a known family is found."""

from collections.abc import Container, Sequence
from dataclasses import replace

from ...plurals import counted
from ..checkpoint import Checkpoint
from ..errors import LayoutError
from .left_overs import explain_parts
from .networks import FamilyNames, Network, find_networks
from .survey import Survey
from .unknown_sets import unknown_sets


def nearest(checkpoint: Checkpoint, found: Survey, families: Sequence[FamilyNames]) -> Network:
    """What comes closest to a network of a known family, to say what it lacks.

    Raises:
        LayoutError: if nothing comes close, because the file holds something else.
    """
    path = checkpoint.path
    if not found.tensors:
        _refuse_without_tensors(checkpoint, found)
    if [tensor.keys for tensor in found.tensors] == [("",)]:
        raise LayoutError(f"{path}: holds a single tensor, expected a dictionary with a state dict")
    if foreign := explain_parts([".".join(tensor.keys) for tensor in found.tensors]):
        raise LayoutError(f"{path}: {foreign}")
    if all(tensor.keys[-1].isdigit() for tensor in found.tensors):
        raise LayoutError(f"{path}: holds {counted(len(found.tensors), 'tensor')} without names, expected a state dict")
    # The marks tell a family from others; without them, names in common are enough.
    close = find_networks(found.tensors, [replace(family, marks=()) for family in families])
    return max(close or unknown_sets(found, []), key=_matches)


def matching_names(
    found: Survey, families: Sequence[FamilyNames], among: Container[int] | None = None
) -> dict[str, int]:
    """Family → how many names are as in its files, of the network that fits best; the most first.

    Args:
        found: the whole file.
        families: by their names.
        among: the positions of the tensors that are looked at; all by default.
    """
    counts: dict[str, int] = {}
    for family in families:
        for network in find_networks(found.tensors, [replace(family, marks=())], among):
            counts[family.name] = max(counts.get(family.name, 0), _matches(network))
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _matches(network: Network) -> int:
    return sum(member.matches for member in network.members)


def _refuse_without_tensors(checkpoint: Checkpoint, found: Survey) -> None:
    optimizers = [state for state in found.states if state.is_optimizer and state.tensors]
    if optimizers:
        size = counted(optimizers[0].tensors, "tensor")
        raise LayoutError(
            f"{checkpoint.path}: holds an optimizer's state alone ({size}) and no weights; choose the file that holds"
            " the model"
        )
    content = checkpoint.content
    if not isinstance(content, dict):
        what = f"an object of class {content.name}" if hasattr(content, "name") else f"a {type(content).__name__}"
        raise LayoutError(f"{checkpoint.path}: holds {what} without tensors, expected a dictionary with a state dict")
    keys = ", ".join(f"{key!r:.60}" for key in list(map(str, content))[:5]) or "nothing"
    named = f"; it names {', '.join(checkpoint.classes[:3])}, which was not imported" if checkpoint.classes else ""
    raise LayoutError(
        f"{checkpoint.path}: holds no state dict; at its top are {keys} (expected tensors by name){named}"
    )
