"""Checks of keys, shapes and values: whether the tensors of a file are a whole network."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from .errors import LayoutError
from .finding.left_overs import explain_parts
from .finding.networks import Member
from .finding.weights import Weight

Shape = tuple[int, ...]
# The name of a file or repo, for errors.
PathName: TypeAlias = str | os.PathLike[str]

COUNTER = "num_batches_tracked"
# The buffers of BatchNorm: how names of a state dict end that are no parameters.
STATISTICS = ("running_mean", "running_var", COUNTER)
# How the two towers of a multimodal checkpoint begin.
TOWERS = ("text_encoder.", "visual_encoder.")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def rename(
    path: PathName, members: Iterable[Member], canonical: Callable[[str], str]
) -> tuple[dict[str, Weight], dict[str, str]]:
    """Give every tensor its canonical name, in the order of the file.

    Args:
        path: the file, for errors.
        members: the tensors of a network.
        canonical: name below the network's prefix → canonical name.

    Returns:
        Weights by canonical name, and the keys in the file by canonical name.

    Raises:
        LayoutError: if two keys are one parameter.
    """
    weights: dict[str, Weight] = {}
    keys: dict[str, str] = {}
    for member in members:
        name = canonical(member.name)
        if name in weights:
            raise LayoutError(f"{path}: {member.key!r} and {keys[name]!r} are the same parameter twice")
        weights[name] = member.weight
        keys[name] = member.key
    return weights, keys


def check_names(path: PathName, keys: Mapping[str, str], expected: Collection[str], verdict: str) -> None:
    """Refuse a file that lacks keys of the network, or has others.

    Args:
        path: the file, for errors.
        keys: the keys in the file by canonical name.
        expected: canonical names of the network.
        verdict: what a file with other keys is not.

    Raises:
        LayoutError: listing what is missing and what is unexpected.
    """
    missing = [name for name in expected if name not in keys]
    unexpected = [key for name, key in keys.items() if name not in expected]
    if missing or unexpected:
        if foreign := explain_parts(list(keys.values())):
            raise LayoutError(f"{path}: {foreign}")
        lists = [text for text in (_list("missing", missing), _list("unexpected", unexpected)) if text]
        matching = len(expected) - len(missing)
        hint = "; --ignore PATTERN leaves out what is no part of it" if unexpected and not missing else ""
        raise LayoutError(f"{path}: {verdict} ({matching} of {len(expected)} keys match): {'; '.join(lists)}{hint}")


def check_shapes(
    path: PathName, shapes: Mapping[str, Shape], keys: Mapping[str, str], expected: Mapping[str, Shape]
) -> None:
    """Refuse a file whose shapes are not those of the network.

    Raises:
        LayoutError: naming a key of another shape.
    """
    wrong = [name for name, shape in expected.items() if shapes[name] != shape]
    if wrong:
        # A tensor of another rank, or of no values, is reported first: no size of the network was inferred from it.
        name = min(wrong, key=lambda name: len(shapes[name]) == len(expected[name]) and 0 not in shapes[name])
        raise LayoutError(
            f"{path}: {keys[name]!r} has shape {list(shapes[name])}, expected {list(expected[name])} beside the other"
            " weights"
        )


def check_values(path: PathName, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that no weights can be.

    Raises:
        LayoutError: naming the first tensor that holds NaN or infinity, or has another type than it must.
    """
    for name, tensor in tensors.items():
        counter = name.endswith(COUNTER)
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise LayoutError(f"{path}: {name} is a sparse, quantised or empty tensor, expected a dense one")
        if tensor.is_complex() if counter else tensor.dtype not in _FLOATS:
            expected = "an integer" if counter else "floating-point numbers"
            raise LayoutError(f"{path}: {name} holds {str(tensor.dtype).removeprefix('torch.')}, expected {expected}")
        if not counter and not _is_finite(tensor):
            raise LayoutError(
                f"{path}: {name} holds NaN or infinity; choose a checkpoint from before training diverged"
            )


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite. NaN makes both extremes NaN; no second tensor is made, as by `isfinite()`."""
    return not tensor.numel() or all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def _list(what: str, names: list[str], most: int = 3) -> str:
    if not names:
        return ""
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{what} {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")
