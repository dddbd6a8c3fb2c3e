"""The weights of somebody's own network, found in a file by the names that the network has."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.errors import LayoutError
from ..checkpoints.finding.choice import ChosenWeights, WeightsWanted, choose
from ..checkpoints.finding.networks import FamilyNames, plain_name
from ..checkpoints.finding.weights import LazyTensors
from ..checkpoints.state_dicts import Shape, check_names, check_shapes, rename

_HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class NetworkNames:
    """What a network's state dict holds.

    Args:
        shapes: name → shape; None for a layer that learns its sizes from its first input.
        tied: name → the first name of the same tensor.
    """

    shapes: Mapping[str, Shape | None]
    tied: Mapping[str, str]


@dataclass(frozen=True)
class FoundWeights:
    """Weights under the network's names.

    Args:
        chosen: where they were.
        tensors: by name, without tied ones.
        keys: name → key in the file.
        tied: name → the first name of the same tensor.
        notes: what a person should know of them.
    """

    chosen: ChosenWeights
    tensors: dict[str, Tensor]
    keys: dict[str, str]
    tied: Mapping[str, str]
    notes: tuple[str, ...]


def find_weights(
    checkpoint: Checkpoint, name: str, network: NetworkNames, wanted: WeightsWanted, attributes: Sequence[str] = ()
) -> FoundWeights:
    """Find the weights of a network in a file, at any depth and below any prefix.

    Args:
        checkpoint: the file.
        name: of the class.
        network: its names.
        wanted: what a person says about them.
        attributes: where an object of the class around the network holds it: of several, these are its weights.

    Raises:
        CheckpointError: if they are not there, not whole or of other shapes, or others are among them.
    """
    names = {plain_name(own): own for own in network.shapes}
    if len(names) < len(network.shapes):
        raise LayoutError(f"{checkpoint.path}: two weights of {name} have one name without wrappers such as module")
    if not names:
        raise LayoutError(f"{name} has no weights, so there is nothing to adopt")
    pattern = re.compile("|".join(re.escape(each) for each in names))
    families = [FamilyNames(name, pattern, ())]
    chosen = choose(checkpoint, families, wanted, [name])
    end = "." + ".".join(attributes)
    if attributes and wanted.path is None and not f".{chosen.network.path}".endswith(end):
        named = [other.path for other in chosen.others if f".{other.path}".endswith(end)]
        if len(named) == 1:
            chosen = choose(checkpoint, families, dataclasses.replace(wanted, path=named[0]), [name])
    if chosen.unused_patterns:
        raise LayoutError(f"{checkpoint.path}: --ignore {chosen.unused_patterns[0]} matches no key of the weights")
    members = [dataclasses.replace(one, name=names.get(one.name, one.name)) for one in chosen.network.members]
    weights, keys = rename(checkpoint.path, members, str)
    first = set(network.tied.values())
    needed = [own for own in network.shapes if own not in network.tied]
    same = {own: one for own, one in network.tied.items() if own in keys}
    for own, one in [*same.items()]:
        if one not in keys:  # the file has it under another of its names
            weights[one], keys[one] = weights.pop(own), keys.pop(own)
            del same[own]
    expected = [*needed, *same]
    check_names(checkpoint.path, keys, expected, f"not the weights of {name}")
    shapes = {own: weights[own].shape for own in weights}
    check_shapes(checkpoint.path, shapes, keys, {own: network.shapes[own] or shapes[own] for own in expected})
    read = LazyTensors(checkpoint.path, weights)
    tensors = {own: read[own].contiguous().clone() for own in expected}  # safetensors takes no memory twice
    _check_finite(checkpoint.path, tensors, keys)
    for own, one in same.items():
        if not torch.equal(tensors[own], tensors[one]):
            raise LayoutError(f"{checkpoint.path}: {keys[own]!r} and {keys[one]!r} differ, and are one in {name}")
    notes = [
        f"tied: {one} = {', '.join(own for own, its in network.tied.items() if its == one)}" for one in sorted(first)
    ]
    return FoundWeights(chosen, {own: tensors[own] for own in needed}, keys, network.tied, tuple(notes))


def common_dtype(tensors: Mapping[str, Tensor]) -> str:
    """The precision of the weights: float16 or bfloat16 if all of them have it, else float32."""
    found = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    return str(found.pop()).removeprefix("torch.") if len(found) == 1 and found <= set(_HALVES) else "float32"


def _check_finite(path: Path, tensors: Mapping[str, Tensor], keys: Mapping[str, str]) -> None:
    for own, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise LayoutError(
                f"{path}: {keys[own]} holds NaN or infinity; choose a checkpoint from before training diverged"
            )


def shapes_of(described: Mapping[str, Sequence[object] | None]) -> dict[str, Shape | None]:
    """The shapes of what a process says of its network."""
    return {name: None if one is None else tuple(one[0]) for name, one in described.items()}  # type: ignore[arg-type]
