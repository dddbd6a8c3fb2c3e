"""Scores that tell inputs with one of the labels from inputs that are none of them, as CLIP-like models allow.

| score | what it is of an input and a label |
|---|---|
| `cosine` | their cosine |
| `softmax` | the softmax over the labels; MCM (Ming et al., 2022, arXiv:2211.13445) takes the largest |
| `background` | the softmax over the labels and background words, as NegLabel (Jiang et al., 2024, arXiv:2403.20078) |

An input is known as well as its best label. NegLabel adds up all labels, whose words are mined far from the labels; the
best label alone, against the other labels of the calibration, told better in what was measured. Such a background also
makes the score independent of how many of its labels are asked for, which a softmax over those alone is not.
"""

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

KnownScore: TypeAlias = Literal["cosine", "softmax", "background"]
KNOWN_SCORES: tuple[KnownScore, ...] = get_args(KnownScore)


def label_scores(score: KnownScore, cosines: Tensor, background: Tensor, temperature: Tensor | float) -> Tensor:
    """How well each label fits each input.

    Args:
        score: which of the scores.
        cosines: [N, L] of inputs and labels.
        background: [N, B] of inputs and background words that are none of the labels; for the other scores unused.
        temperature: what the model divides cosines by.

    Returns:
        [N, L]; the largest of a row says how well the input is known.
    """
    if score == "cosine":
        return cosines
    words = torch.cat([cosines, background], dim=-1) if score == "background" else cosines
    return (words / temperature).softmax(dim=-1)[:, : cosines.shape[1]]
