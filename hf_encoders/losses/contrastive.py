"""Contrastive losses over pairs of modalities: InfoNCE and the sigmoid loss.

On several ranks they equal the losses of one process that has all rows: every row is compared with the rows of all
ranks, means are over all rows, and gradients of parameters are right once averaged over ranks, as
`DistributedDataParallel` and Accelerate do.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..modalities import MODALITIES
from .gathering import GatheredBatch, gather_batch, global_mean, with_shared_gradient

PAIRS = tuple("-".join(pair) for pair in itertools.combinations(MODALITIES, 2))


@dataclass(frozen=True)
class LossOutput:
    """A loss over all ranks, with the same value on each.

    Args:
        loss: scalar, to call backward on.
        parts: pair, such as "text-image" → its part of the loss, without gradient, to log.
    """

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class InfoNCELoss(nn.Module):
    """Cross-entropy of each row's counterpart among all candidates, as in CLIP (https://arxiv.org/abs/2103.00020).

    The legacy training's loss is `InfoNCELoss(symmetric=False)` with the masked copies of the images as negatives and
    the temperature 0.07.

    Args:
        pair_weights: pair ("text-image", "text-depth", "image-depth") → its weight. Pairs that are not named are left
            out; by default all that are present count alike. The loss is the weighted mean over the pairs.
        symmetric: the mean of both directions; otherwise only from a pair's first modality to its second.
        label_smoothing: this share of the target is spread over all candidates that are not masked.

    Raises:
        ValueError: if a pair, weight or share is invalid.
    """

    def __init__(
        self,
        pair_weights: Mapping[str, float] | None = None,
        *,
        symmetric: bool = True,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        self.pair_weights = checked_weights(pair_weights)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {label_smoothing}")
        self.symmetric = symmetric
        self.label_smoothing = label_smoothing

    def forward(
        self,
        embeds: Mapping[str, Tensor],
        temperature: Tensor | float,
        *,
        ids: Mapping[str, Tensor] | None = None,
        negatives: Mapping[str, Tensor] | None = None,
        negative_ids: Mapping[str, Tensor] | None = None,
    ) -> LossOutput:
        """Compare the rows of each pair of modalities.

        Args:
            embeds: modality → [B, D] unit vectors; row i of one belongs to row i of the others. B may differ from
                rank to rank and may be 0; every rank must call this.
            temperature: divides the similarities: a constant, or a tensor that gets a gradient, such as the model's
                `clamped_temperature`.
            ids: modality → [B] integers, see `stable_ids`. Candidates with the same id as the row, so the same text,
                image or depth map, are left out.
            negatives: modality → [K, D] unit vectors of further candidates, such as masked copies of images. They are
                negatives of every row that is compared with this modality.
            negative_ids: modality → [K] integers, the ids of the negatives.

        Raises:
            ValueError, TypeError: if names or shapes do not fit together, no pair is left, or nothing is in the batch.
        """
        batch = gather_batch(embeds, ids, negatives, negative_ids)
        temperature = checked_temperature(temperature, batch)
        sums = {}
        for pair, (first, second) in present_pairs(batch, self.pair_weights).items():
            losses = self._direction(batch, first, second, temperature)
            if self.symmetric:
                losses = (losses + self._direction(batch, second, first, temperature)) / 2
            sums[pair] = losses.sum()
        return weighted_mean(sums, self.pair_weights, batch.count)

    def _direction(self, batch: GatheredBatch, first: str, second: str, temperature: Tensor) -> Tensor:
        """[B]: the losses of this rank's rows."""
        masked = batch.false_negatives(first, second)
        log_shares = candidate_logits(batch, first, second, temperature).masked_fill(masked, -torch.inf).log_softmax(1)
        losses = -log_shares.diagonal(batch.start)
        if not self.label_smoothing:
            return losses
        spread = -log_shares.masked_fill(masked, 0).sum(1) / (~masked).sum(1)
        return (1 - self.label_smoothing) * losses + self.label_smoothing * spread


class SigmoidLoss(nn.Module):
    """SigLIP's loss: each pair of rows is classified on its own, as matching or not (https://arxiv.org/abs/2303.15343).

    It is summed over candidates and averaged over rows. The bias is a parameter of the loss: give it to the optimizer.

    Args:
        pair_weights: as for `InfoNCELoss`.
        bias_init_value: added to the logits. The paper starts at -10, with a temperature of 0.1: nearly all pairs are
            negative.
        learn_bias: whether the bias is trained.

    Raises:
        ValueError: if a pair or weight is invalid.
    """

    def __init__(
        self,
        pair_weights: Mapping[str, float] | None = None,
        *,
        bias_init_value: float = -10.0,
        learn_bias: bool = True,
    ):
        super().__init__()
        self.pair_weights = checked_weights(pair_weights)
        self.bias = nn.Parameter(torch.tensor(float(bias_init_value)), requires_grad=learn_bias)

    def forward(
        self,
        embeds: Mapping[str, Tensor],
        temperature: Tensor | float,
        *,
        ids: Mapping[str, Tensor] | None = None,
        negatives: Mapping[str, Tensor] | None = None,
        negative_ids: Mapping[str, Tensor] | None = None,
    ) -> LossOutput:
        """Compare the rows of each pair of modalities; arguments and errors are those of `InfoNCELoss`."""
        batch = gather_batch(embeds, ids, negatives, negative_ids)
        temperature = checked_temperature(temperature, batch)
        bias = with_shared_gradient(self.bias)
        sums = {}
        for pair, (first, second) in present_pairs(batch, self.pair_weights).items():
            losses = self._pairs(batch, first, second, temperature, bias).sum()
            if first in batch.negatives:  # the pairs of rows are counted above
                losses = losses + self._pairs(batch, second, first, temperature, bias)[:, batch.count :].sum()
            sums[pair] = losses
        return weighted_mean(sums, self.pair_weights, batch.count)

    def _pairs(self, batch: GatheredBatch, first: str, second: str, temperature: Tensor, bias: Tensor) -> Tensor:
        """[B, N + K]: the losses of this rank's rows with each candidate; zero where masked."""
        logits = candidate_logits(batch, first, second, temperature) + bias
        signs = torch.ones_like(logits)
        signs.diagonal(batch.start).fill_(-1)
        return nn.functional.softplus(signs * logits).masked_fill(batch.false_negatives(first, second), 0)


def stable_ids(values: Iterable[str | int]) -> Tensor:
    """Captions, names or numbers → [N] int64: equal values have equal ids, on every rank and in every run.

    Raises:
        TypeError: if a value is neither a string nor an integer.
    """
    hashes = []
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise TypeError(f"id {index} is a {type(value).__name__}, expected a string or an integer")
        digest = hashlib.blake2b(f"{type(value).__name__} {value}".encode(), digest_size=8).digest()
        hashes.append(int.from_bytes(digest, "big", signed=True))
    return torch.tensor(hashes, dtype=torch.int64)


def candidate_logits(batch: GatheredBatch, first: str, second: str, temperature: Tensor) -> Tensor:
    """[B, N + K]: similarities of this rank's rows to all candidates, divided by the temperature."""
    with torch.autocast(batch.embeds[first].device.type, enabled=False):
        return batch.own(first) @ batch.candidates(second).T / temperature


def present_pairs(batch: GatheredBatch, weights: Mapping[str, float]) -> dict[str, tuple[str, str]]:
    """The pairs that the batch has and that have a weight.

    Raises:
        ValueError: if there is none.
    """
    pairs = {"-".join(pair): pair for pair in itertools.combinations(batch.embeds, 2)}
    pairs = {name: pair for name, pair in pairs.items() if weights.get(name)}
    if not pairs:
        raise ValueError(
            f"nothing to compare: the batch has {', '.join(batch.embeds)}, the loss is of"
            f" {', '.join(name for name, weight in weights.items() if weight)}"
        )
    return pairs


def checked_weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    """Weights of the pairs; 1 for each by default.

    Raises:
        ValueError: if a pair is unknown, a weight is negative or not finite, or all are zero.
    """
    weights = dict.fromkeys(PAIRS, 1.0) if weights is None else dict(weights)
    for pair, weight in weights.items():
        if pair not in PAIRS:
            raise ValueError(f"no pair {pair!r}: the pairs are {', '.join(PAIRS)}")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"the weight of {pair} must be finite and not negative, got {weight}")
    if not any(weights.values()):
        raise ValueError("no pair has a weight above 0")
    return weights


def checked_temperature(temperature: Tensor | float, batch: GatheredBatch) -> Tensor:
    """The temperature as a scalar on the embeddings' device, with the gradient of all ranks.

    Raises:
        ValueError: if it is a number and not positive. A tensor is not checked: reading it would wait for the device.
    """
    if not isinstance(temperature, Tensor):
        if not temperature > 0:
            raise ValueError(f"the temperature must be positive, got {temperature}")
        return next(iter(batch.embeds.values())).new_tensor(temperature)
    return with_shared_gradient(temperature)


def weighted_mean(sums: Mapping[str, Tensor], weights: Mapping[str, float], count: int) -> LossOutput:
    """Sums over this rank's rows → the mean over all rows, and the weighted mean over the pairs."""
    means = global_mean(torch.stack(list(sums.values())), count)
    shares = means.new_tensor([weights[pair] for pair in sums])
    return LossOutput((means * shares).sum() / shares.sum(), dict(zip(sums, means.detach(), strict=True)))
