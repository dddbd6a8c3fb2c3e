"""Tells what is in a file of weights, of a known family or not, without reading the values of its tensors."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.files import open_checkpoint
from ..checkpoints.finding.averages import is_average
from ..checkpoints.finding.choice import BARE, excluded_keys, wrapping_of
from ..checkpoints.finding.left_overs import explain_parts, is_empty, is_left_over
from ..checkpoints.finding.metadata import metadata_without
from ..checkpoints.finding.nearest import matching_names
from ..checkpoints.finding.networks import Network, find_networks, path_text
from ..checkpoints.finding.survey import Survey, TrainingState, survey
from ..checkpoints.finding.unknown_sets import unknown_sets
from ..checkpoints.state_dicts import STATISTICS
from ..hub.reports import Json
from .families.names import FAMILIES, layout_of
from .plain_data import harmless, plain_metadata
from .source_files import source_size

_MOST_NAMES = 1000
# What a state dict holds beside parameters.
_BUFFERS = (*STATISTICS, "position_ids")


class WeightsFound(TypedDict):
    """A set of weights in a file.

    Args:
        path: the dotted path to it, as `--weights` takes it; "." is the top of the file.
        family: its family, such as "depth-autoencoder"; None if it is of none that is known.
        stored_as: how the file holds it, such as "training checkpoint" or "pickled AutoEncoder".
        average: whether its path says that it is an average of weights.
        prefix: what its names begin with in the file, and not in the network.
        tensors: the number of tensors.
        parameters: the number of their values, without those of buffers; tied tensors count once.
        dtypes: type → number of tensors.
        bytes: of their values; tied tensors count once.
        left_overs: names that are no part of the network, such as those of a profiler.
        note: a form in which they are stored, and what to do about it; empty otherwise.
        names: of the tensors, without the prefix; the first 1,000.
        nearest: family → how many names are as in its files, if at least every other one is; empty for weights of a
            known family.
    """

    path: str
    family: str | None
    stored_as: str
    average: bool
    prefix: str
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    bytes: int
    left_overs: list[str]
    note: str
    names: list[str]
    nearest: dict[str, int]


class StateFound(TypedDict):
    """A state of the training: an optimizer, a scheduler, a random generator."""

    path: str
    tensors: int
    bytes: int


class Inspection(TypedDict):
    """What a file of weights holds.

    Args:
        file: its path.
        container: how it is stored, such as "PyTorch zip".
        bytes: its size.
        bytes_read: how much of it was read.
        classes: the classes that it names, none of which was imported.
        weights: the sets of weights, in the order of the file.
        optimizer: the states of optimizers.
        training: the other states of the training, such as those of schedulers and random generators.
        metadata: everything else, as JSON.
    """

    file: str
    container: str
    bytes: int
    bytes_read: int
    classes: list[str]
    weights: list[WeightsFound]
    optimizer: list[StateFound]
    training: list[StateFound]
    metadata: dict[str, Json]


def inspect_checkpoint(path: Path) -> Inspection:
    """Tell what is in a file of weights.

    Args:
        path: a file or folder of weights.

    Raises:
        CheckpointError: if it cannot be read.
    """
    checkpoint = open_checkpoint(path)
    found = survey(path, checkpoint.content)
    networks = find_networks(found.tensors, FAMILIES)
    others = [network for network in unknown_sets(found, networks) if _has_matrices(network)]
    excluded = excluded_keys(found, [*networks, *others])
    return {
        "file": str(path),
        "container": checkpoint.container,
        "bytes": source_size(path),
        "bytes_read": checkpoint.pickles_read,
        "classes": [harmless(name) for name in checkpoint.classes],
        "weights": [
            _weights(checkpoint, network, _nearest(found, network))
            for network in sorted([*networks, *others], key=lambda network: network.numbers[0])
        ],
        "optimizer": [_state(state) for state in found.states if state.is_optimizer],
        "training": [_state(state) for state in found.states if not state.is_optimizer],
        "metadata": plain_metadata(metadata_without(checkpoint.content, excluded), read_tensors=False),
    }


def _weights(checkpoint: Checkpoint, network: Network, nearest: dict[str, int]) -> WeightsFound:
    left_overs = [m for m in network.members if network.family and not m.matches and is_left_over(m.name)]
    network = replace(network, members=[member for member in network.members if member not in left_overs])
    weights = {member.weight.identity: member for member in network.members}.values()
    parameters = [member.weight for member in weights if not member.name.endswith(_BUFFERS)]
    dtypes = Counter(str(member.weight.dtype).removeprefix("torch.") for member in network.members)
    wrapping = wrapping_of(checkpoint, network)
    return {
        "path": harmless(network.path),
        "family": layout_of(network) or None,
        "stored_as": harmless("state dict" if wrapping == BARE or wrapping.endswith(network.path) else wrapping),
        "average": is_average(network.path),
        "prefix": harmless(network.prefix),
        "tensors": len(network.members),
        "parameters": sum(_count(weight.shape) for weight in parameters),
        "dtypes": dict(dtypes.most_common()),
        "bytes": sum(member.weight.nbytes for member in weights),
        "left_overs": [harmless(member.key) for member in left_overs],
        "note": harmless(_note(network)),
        "names": [harmless(member.name) for member in network.members[:_MOST_NAMES]],
        "nearest": nearest,
    }


def _nearest(found: Survey, network: Network) -> dict[str, int]:
    """The families that have at least every other name of weights of no known family."""
    if network.family:
        return {}
    counts = matching_names(found, FAMILIES, set(network.numbers))
    return {name: count for name, count in counts.items() if 2 * count >= len(network.members)}


def _note(network: Network) -> str:
    if is_empty(network.members):
        return "its tensors are empty: DeepSpeed stage 3 keeps the weights in other files (see zero_to_fp32.py there)"
    return explain_parts([member.key for member in network.members])


def _state(state: TrainingState) -> StateFound:
    return {"path": harmless(path_text(state.keys)), "tensors": state.tensors, "bytes": state.nbytes}


def _has_matrices(network: Network) -> bool:
    """Whether some tensor has dimensions and holds floating-point numbers; others are figures of a training."""
    return any(member.weight.shape and member.weight.dtype.is_floating_point for member in network.members)


def _count(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
