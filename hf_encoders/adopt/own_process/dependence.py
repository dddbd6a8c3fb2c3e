"""What an embedding depends on beside its own input: the inputs beside it, and what a mask hides."""

from collections.abc import Callable

import torch
from torch import Tensor

from .outputs import Inputs
from .refused import Refused

# Rounding stays below, and a mask that is turned round far above.
_SAME = 1e-3
_FEWEST = 3  # tokens


def neighbours(embed: Callable[[Inputs], Tensor], inputs: Inputs) -> float | None:
    """How much the embedding of an input depends on those beside it, relative to its largest number.

    Args:
        embed: inputs by the names of `forward` → the embeddings [B, D].
        inputs: of several rows.

    Returns:
        None where the difference may be rounding, or the network takes no single row.
    """
    together = embed(inputs)[:1]
    try:
        alone = embed({name: tensor[:1] for name, tensor in inputs.items()})
    except Exception:  # such as BatchNorm1d's, which wants several rows
        return None
    difference = _difference(together, alone)
    return difference if difference > _SAME else None


def check_mask(embed: Callable[[Inputs], Tensor], inputs: Inputs, mask: str, is_inverted: bool) -> None:
    """Refuse a network whose embedding of a text changes with what its mask hides.

    Args:
        embed: see `neighbours`.
        inputs: the numbers of words first.
        mask: the name of the mask.
        is_inverted: whether it is true, not false, where nothing is to be read.

    Raises:
        Refused: if it changes.
    """
    main, words = next(iter(inputs.items()))
    if words.ndim != 2 or words.shape[1] < _FEWEST or inputs[mask].shape != words.shape:
        return
    hidden = words.shape[1] // _FEWEST
    values = inputs[mask].clone()
    values[:, -hidden:] = (
        1 - values[:, -hidden:].to(torch.uint8).to(values.dtype)
        if values.dtype != torch.bool
        else (~values[:, -hidden:])
    )
    others = words.clone()
    others[:, -hidden:] = words[:, :hidden].flip(1)
    if torch.equal(others, words):
        return
    one, two = (embed({**inputs, main: each, mask: values}) for each in (words, others))
    difference = _difference(one, two)
    if not difference <= _SAME:
        turned = mask if is_inverted else f"~{mask}"
        raise Refused(
            f"the embedding changes by {difference:.1e} with words that {mask} hides ({mask} is"
            f" {1 if is_inverted else 0} there); --input '{turned}=...' takes the mask the other way round"
        )


def _difference(one: Tensor, two: Tensor) -> float:
    largest = max(one.abs().max().item(), two.abs().max().item())
    return (one - two).abs().max().item() / largest if largest else 0.0
