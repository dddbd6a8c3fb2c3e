"""Chooses the weights of a file that holds several, and tells what else is there."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..checkpoint import Checkpoint
from ..errors import LayoutError, NoSuchWeightsError
from .left_overs import is_empty
from .metadata import metadata_without, top_module
from .nearest import matching_names, nearest
from .networks import FamilyNames, Member, Network, find_networks, path_text
from .ranking import best, reason
from .sifting import sift
from .survey import Keys, Survey, survey
from .unknown_sets import is_network, unknown_sets

_OPTIMIZER = "optimizer_state_dict"
_WRAPPINGS = {"model_state_dict": "training checkpoint", "encoder_state_dict": "extracted encoder"}
BARE = "bare state dict"
# Key at the top of a file → what wrote it.
_WRITERS = {
    "pytorch-lightning_version": "PyTorch Lightning checkpoint",
    "ds_version": "DeepSpeed checkpoint",
    "mmengine_version": "MMEngine checkpoint",
}
_MOST_LISTED = 8
_MOST_LEVELS = 16  # of containers within a network


@dataclass(frozen=True)
class WeightsWanted:
    """What a person says about the weights to take.

    Args:
        path: the dotted path of the weights, as the output of a conversion and `hf-encoders inspect` print it.
        ignore: patterns of keys to leave out, as `fnmatch` reads them.
    """

    path: str | None = None
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChosenWeights:
    """The weights of a file that were taken, and what else is in the file.

    Args:
        path: the file.
        container: what kind of file it is.
        classes: the classes in it, none of which was imported.
        network: the tensors, under the names of their family.
        wrapping: how the file holds them: "training checkpoint", "bare state dict", "pickled AutoEncoder", ...
        dropped: keys that are no part of the network.
        ignored: the patterns by which keys were left out.
        others: the other networks in the file, those of no known family too.
        unused_patterns: patterns that no key matched.
        metadata: what the file says beside its weights, without the states of its training.
        optimizer: the optimizer's state dict, if the file holds exactly one.
        notes: what a person should know of the choice, one line each.
        near: family → how many names match, if the network is of no known family but comes close to some.
    """

    path: Path
    container: str
    classes: tuple[str, ...]
    network: Network
    wrapping: str
    dropped: list[str] = field(default_factory=list)
    ignored: tuple[str, ...] = ()
    others: list[Network] = field(default_factory=list)
    unused_patterns: list[str] = field(default_factory=list)
    metadata: dict[str, object] = field(default_factory=dict)
    optimizer: object = None
    notes: list[str] = field(default_factory=list)
    near: dict[str, int] = field(default_factory=dict)


def choose(
    checkpoint: Checkpoint,
    families: Sequence[FamilyNames],
    wanted: WeightsWanted | None = None,
    preferred: Sequence[str] = (),
    alone: Collection[str] = (),
) -> ChosenWeights:
    """Choose the weights to take; see `ranking.best`. The others are told.

    Args:
        checkpoint: the file.
        families: the families that are known, by their names.
        wanted: what a person says.
        preferred: the families that are asked for; without any of those, the others.
        alone: families of which a file may not hold several that are as good.

    Raises:
        AmbiguousWeightsError: if nothing tells which of several networks is meant.
        NoSuchWeightsError: if the path that is wanted leads to no weights, or to several.
        LayoutError: if there are no weights, or they are stored in a form of their own.
    """
    wanted = wanted or WeightsWanted()
    found = survey(checkpoint.path, checkpoint.content)
    networks = find_networks(found.tensors, families)
    if wanted.path is not None:
        network = _at(checkpoint, found, networks, families, wanted.path)
    elif networks:
        network = best(checkpoint.path, networks, preferred, alone)
    else:
        network = nearest(checkpoint, found, families)
    if _is_endless(found, network):
        raise LayoutError(f"{checkpoint.path}: the weights at {network.path} contain themselves, so they have no end")
    sifted = sift(found, networks, network, wanted.ignore)
    network = replace(network, members=sifted.members)
    _check_whole(checkpoint, network)
    why = reason(network, networks, alone)
    known = [other for other in networks if other.numbers != network.numbers]
    unknown = [
        other
        for other in unknown_sets(found, [network, *known])
        if is_network(other) and (not network.container or other.container[:1] != network.container[:1])
    ]
    return ChosenWeights(
        path=checkpoint.path,
        container=checkpoint.container,
        classes=checkpoint.classes,
        network=network,
        wrapping=wrapping_of(checkpoint, network),
        dropped=sifted.dropped,
        ignored=wanted.ignore,
        others=[*known, *unknown],
        unused_patterns=sifted.unused,
        metadata=metadata_without(checkpoint.content, excluded_keys(found, [network, *known, *unknown])),
        optimizer=_optimizer(found),
        near={} if networks else matching_names(found, families),
        notes=[*([why] if why and wanted.path is None else []), *_tied(sifted.members)],
    )


def _at(
    checkpoint: Checkpoint, found: Survey, networks: Sequence[Network], families: Sequence[FamilyNames], path: str
) -> Network:
    """The weights at a path that a person gave: known networks, then parts of them, then tensors of no known family.

    The end of the path of a known network is enough.
    """
    unknown = unknown_sets(found, networks)
    matching = _matching(networks, path) or [network for network in networks if network.path.endswith(f".{path}")]
    matching = matching or _parts_of_networks(found, families, path) or _matching(unknown, path)
    if len(matching) == 1:
        return matching[0]
    paths = [network.path for network in matching or [*networks, *unknown]]
    more = f" and {len(paths) - _MOST_LISTED} more" if len(paths) > _MOST_LISTED else ""
    listed = f"{', '.join(paths[:_MOST_LISTED])}{more}" if paths else "none"
    what = "leads to several sets of weights" if matching else "is no set of weights in the file"
    raise NoSuchWeightsError(f"{checkpoint.path}: --weights {path} {what}; there are: {listed}")


def _matching(networks: Sequence[Network], path: str) -> list[Network]:
    """The networks at a path; without any, those at the same path without quotes, or below it."""
    same = [network for network in networks if network.path == path]
    same = same or [network for network in networks if network.path.replace('"', "") == path.replace('"', "")]
    return same or [
        network for network in networks if path_text(network.container) == path or network.path.startswith(f"{path}.")
    ]


def _parts_of_networks(found: Survey, families: Sequence[FamilyNames], path: str) -> list[Network]:
    """Networks within another one, such as the image tower of a CLIP; the end of the path of one is enough."""
    plain = path.replace('"', "") + "."
    names = [".".join(tensor.keys) for tensor in found.tensors]
    for fits in (lambda name: name.startswith(plain), lambda name: f".{plain}" in name):
        numbers = {number for number, name in enumerate(names) if fits(name)}
        if inner := find_networks(found.tensors, families, numbers) if numbers else []:
            return inner
    return []


def _is_endless(found: Survey, network: Network) -> bool:
    """Whether a network lies in a container that contains itself, or something in it leads back."""
    length = len(network.container)
    ways = {
        found.tensors[number].keys[:end] for number in network.numbers for end in range(length, length + _MOST_LEVELS)
    }
    return any(circle in ways or (circle and circle[:length] == network.container) for circle in found.circles)


def _check_whole(checkpoint: Checkpoint, network: Network) -> None:
    """Refuse weights that are not in this file."""
    if is_empty(network.members):
        raise LayoutError(
            f"{checkpoint.path}: its tensors are empty, as DeepSpeed stage 3 leaves them: the weights are in the other"
            " files of its folder; run `python zero_to_fp32.py . pytorch_model.bin` there, and convert that file"
        )


def excluded_keys(found: Survey, networks: Sequence[Network]) -> set[Keys]:
    """The keys of what is no metadata: some networks, and the states of training."""
    keys = {state.keys for state in found.states}
    for network in networks:
        length = len(network.container)
        for its_keys in (found.tensors[number].keys for number in network.numbers):
            if length and network.family and its_keys[:length] == network.container:
                keys.add(network.container)
            else:
                keys.add(its_keys[: length + 1])
    return keys


def _optimizer(found: Survey) -> object:
    named = [state for state in found.states if state.keys[-1:] == (_OPTIMIZER,)]
    optimizers = named or [state for state in found.states if state.is_optimizer]
    return optimizers[0].value if len(optimizers) == 1 else None  # of several, nothing tells whose they are


def wrapping_of(checkpoint: Checkpoint, network: Network) -> str:
    """How a file holds a network: "training checkpoint", "bare state dict", "pickled AutoEncoder", ..."""
    content, container = checkpoint.content, network.container
    if checkpoint.container == "TorchScript archive":
        return checkpoint.container
    if (module := top_module(content, container)) is not None:
        return f"pickled {module.name.rpartition('.')[2]}"
    top = content if isinstance(content, dict) else {}
    written_by = next((what for key, what in _WRITERS.items() if key in top), "")
    if written_by or not container:
        return written_by or BARE
    return _WRAPPINGS.get(container[-1]) or f"state dict under {network.path}"


def _tied(members: Sequence[Member]) -> list[str]:
    """A line about tensors that the file holds under several names."""
    names: dict[object, list[str]] = {}
    for member in members:
        if math.prod(member.weight.shape):
            names.setdefault(member.weight.identity, []).append(member.key)
    tied = [same for same in names.values() if len(same) > 1]
    shown = "; ".join(" = ".join(same[:4]) for same in tied[:3])
    more = f" and {len(tied) - 3} more" if len(tied) > 3 else ""
    return [f"tied: {shown}{more} (one tensor in the file, written under each name)"] if tied else []
