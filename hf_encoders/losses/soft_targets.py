"""A contrastive loss whose targets are as like each other as the texts are."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .contrastive import (
    LossOutput,
    candidate_logits,
    checked_temperature,
    checked_weights,
    present_pairs,
    weighted_mean,
)
from .gathering import gather_batch

_TEXT = "text"


class SoftTargetLoss(nn.Module):
    """The divergence of each row's similarities to the texts' counterparts from how like each other the texts are.

    A picture of a stool is then no more wrong for "a chair" than the two words are apart, which is what words that no
    caption has rely on. It is the softened target of SoftCLIP (https://arxiv.org/abs/2303.17561) with similarities of
    texts in the place of those of regions.

    Args:
        target_temperature: divides the similarities of the texts.
        pair_weights: as for `InfoNCELoss`; pairs without texts are left out.

    Raises:
        ValueError: if the temperature is not positive, or a pair or weight is invalid.
    """

    def __init__(self, target_temperature: float = 0.05, pair_weights: Mapping[str, float] | None = None):
        super().__init__()
        if not target_temperature > 0:
            raise ValueError(f"target_temperature must be positive, got {target_temperature}")
        self.target_temperature = target_temperature
        weights = checked_weights(pair_weights)
        self.pair_weights = {pair: weight for pair, weight in weights.items() if pair.startswith(f"{_TEXT}-")}

    def forward(
        self, embeds: Mapping[str, Tensor], temperature: Tensor | float, texts: Tensor | None = None
    ) -> LossOutput:
        """Compare rows with the similarities of their texts.

        Args:
            embeds: modality → [B, D] unit vectors, see `InfoNCELoss`; texts are among them.
            temperature: divides the similarities of `embeds`.
            texts: [B, D of any model] unit vectors of the same texts, without gradient; by default those of `embeds`.

        Raises:
            ValueError, TypeError: if names or shapes do not fit together, or there are no texts.
        """
        batch = gather_batch(embeds)
        if _TEXT not in batch.embeds:
            raise ValueError(f"nothing to compare: the batch has {', '.join(batch.embeds)}, the loss is of texts")
        likeness = gather_batch({_TEXT: (embeds[_TEXT] if texts is None else texts).detach().to(embeds[_TEXT])})
        if likeness.count != batch.count:
            raise ValueError(f"there are {likeness.count} texts, and {batch.count} rows")
        temperature = checked_temperature(temperature, batch)
        with torch.autocast(batch.embeds[_TEXT].device.type, enabled=False):
            similarities = likeness.own(_TEXT) @ likeness.embeds[_TEXT].T
        targets = (similarities / self.target_temperature).log_softmax(1)
        sums = {}
        for pair, (first, second) in present_pairs(batch, self.pair_weights).items():
            directions = [
                nn.functional.kl_div(
                    candidate_logits(batch, *names, temperature).log_softmax(1),
                    targets,
                    reduction="sum",
                    log_target=True,
                )
                for names in ((first, second), (second, first))
            ]
            sums[pair] = (directions[0] + directions[1]) / 2
        return weighted_mean(sums, self.pair_weights, batch.count)
