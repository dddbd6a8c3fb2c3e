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


def padding(run: Callable[[Inputs], Inputs], inputs: Inputs, mask: str, is_inverted: bool) -> float | None:
    """How much the embedding of a text changes with words that its mask hides, relative to its largest number.

    Args:
        run: inputs by the names of `forward` → the hidden state and the embedding.
        inputs: the numbers of words first.
        mask: the name of the mask.
        is_inverted: whether it is true, not false, where nothing is to be read.

    Returns:
        None where the difference may be rounding, or a mask hides no single words.

    Raises:
        Refused: if the mask hides the words that it should show, and shows those that it should hide.
    """
    main, words = next(iter(inputs.items()))
    if words.ndim != 2 or words.shape[1] < _FEWEST or inputs[mask].shape != words.shape:
        return None
    hidden = words.shape[1] // _FEWEST
    others = words.clone()
    others[:, -hidden:] = words[:, :hidden].flip(1)
    if torch.equal(others, words):
        return None
    shown = inputs[mask].bool()  # where it is as a text without padding has it
    values = torch.cat([shown[:, :-hidden], ~shown[:, -hidden:]], 1)

    def differences(values: Tensor) -> tuple[float, float]:
        """Of the words that are not hidden, if there are such, and of the embedding."""
        given = values.to(inputs[mask].dtype)
        one, two = (run({**inputs, main: each, mask: given}) for each in (words, others))
        states = [outputs["last_hidden_state"] for outputs in (one, two)]
        is_of_words = states[0].ndim == 3 and states[0].shape[1] == words.shape[1]
        kept = [state[:, :-hidden] for state in states] if is_of_words else [one["pooler_output"], two["pooler_output"]]
        return _difference(*kept), _difference(one["pooler_output"], two["pooler_output"])

    of_kept, of_embedding = differences(values)
    if not of_kept <= _SAME and differences(~values)[0] <= _SAME:
        turned = mask if is_inverted else f"~{mask}"
        raise Refused(
            f"{mask} hides what is {0 if is_inverted else 1} in it, and shows what is {1 if is_inverted else 0}: say"
            f" --input '{turned}=...', which takes it the other way round"
        )
    return None if of_embedding <= _SAME else of_embedding


def _difference(one: Tensor, two: Tensor) -> float:
    largest = max(one.abs().max().item(), two.abs().max().item())
    return (one - two).abs().max().item() / largest if largest else 0.0
