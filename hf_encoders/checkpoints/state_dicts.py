"""What the readers of legacy files share: unwrapping, names without wrappers, checks of keys, shapes and values."""

import os
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from .files import CheckpointError

Shape = tuple[int, ...]
# The name of a file or repo, for errors.
PathName: TypeAlias = str | os.PathLike[str]

COUNTER = "num_batches_tracked"
BARE = "bare state dict"
# How the two towers of a multimodal checkpoint begin.
TOWERS = ("text_encoder.", "visual_encoder.")
OPTIMIZER_STATE = "optimizer_state_dict"
# nn.DataParallel, DDP and torch.compile put these in front of whatever they wrap, a sub-module included.
_WRAPPER_NAMES = {"module", "_orig_mod"}
_STATES = {OPTIMIZER_STATE, "scheduler_state_dict"}
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class LayoutError(CheckpointError):
    """A checkpoint that is none of the legacy layouts, or not a whole one."""


def unwrap(
    path: PathName, content: Mapping[str, object], wrappings: Mapping[str, str]
) -> tuple[str, dict[str, Tensor]]:
    """Find the state dict in what a file holds.

    Args:
        path: the file, for errors.
        content: what it holds.
        wrappings: key that may hold the state dict → what such a file is called.

    Returns:
        What the file is called ("bare state dict" if nothing wraps it), and the tensors by their keys in the file.

    Raises:
        LayoutError: if there is no state dict, or something in it is not a tensor.
    """
    container = next((key for key in wrappings if key in content), None)
    inner, wrapping = (content, BARE) if container is None else (content[container], wrappings[container])
    tensors = inner if isinstance(inner, Mapping) else {}
    others = [str(key) for key, value in tensors.items() if not isinstance(value, Tensor) or not isinstance(key, str)]
    if not tensors or len(others) == len(tensors):
        keys = ", ".join(repr(str(key)) for key in list(content)[:5]) or "nothing"
        raise LayoutError(f"{path}: holds no state dict; at its top are {keys} (expected {' or '.join(wrappings)})")
    if others:
        raise LayoutError(f"{path}: {others[0]!r} in the state dict is not a tensor")
    return wrapping, dict(tensors)


def other_content(content: Mapping[str, object], wrapping: str, wrappings: Collection[str]) -> dict[str, object]:
    """What a file says beside its state dict (epoch, losses, configuration), without the states of training."""
    return {key: value for key, value in content.items() if wrapping != BARE and key not in {*wrappings, *_STATES}}


def strip_wrappers(key: str) -> str:
    """A key without what nn.DataParallel, DDP and torch.compile put into it."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPER_NAMES)


def rename(
    path: PathName, state_dict: Mapping[str, Tensor], canonical: Callable[[str], str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Give every tensor its canonical name, in the order of the file.

    Args:
        path: the file, for errors.
        state_dict: tensors by their keys in the file.
        canonical: name without wrappers → canonical name.

    Returns:
        Tensors by canonical name, and the keys in the file by canonical name.

    Raises:
        LayoutError: if two keys are one parameter.
    """
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    for key, tensor in state_dict.items():
        name = canonical(strip_wrappers(key))
        if name in tensors:
            raise LayoutError(f"{path}: {key!r} and {keys[name]!r} are the same parameter twice")
        tensors[name] = tensor.detach()
        keys[name] = key
    return tensors, keys


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
        lists = [text for text in (_list("missing", missing), _list("unexpected", unexpected)) if text]
        matching = len(expected) - len(missing)
        raise LayoutError(f"{path}: {verdict} ({matching} of {len(expected)} keys match): {'; '.join(lists)}")


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
        if not counter and not tensor.isfinite().all():
            raise LayoutError(
                f"{path}: {name} holds NaN or infinity; choose a checkpoint from before training diverged"
            )


def _list(what: str, names: list[str], most: int = 3) -> str:
    if not names:
        return ""
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{what} {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")
