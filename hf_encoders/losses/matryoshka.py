"""A loss over prefixes of the embeddings: Matryoshka representation learning."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .contrastive import InfoNCELoss, LossOutput, SigmoidLoss


class MatryoshkaLoss(nn.Module):
    """The sum of a loss over prefixes of the embeddings, each scaled to length 1 (https://arxiv.org/abs/2205.13147).

    Embeddings that are trained with it may be truncated to these sizes (`truncate_dim`).

    Args:
        loss: the loss of each prefix.
        dims: sizes of the prefixes. Include the whole size to train it too.
        weights: the weight of each prefix; by default 1.

    Raises:
        ValueError: if a size or weight is invalid, or a size is named twice.
    """

    def __init__(self, loss: InfoNCELoss | SigmoidLoss, dims: Sequence[int], weights: Sequence[float] | None = None):
        super().__init__()
        self.loss = loss
        self.dims = list(dims)
        self.weights = [1.0] * len(self.dims) if weights is None else list(weights)
        if not self.dims or len(set(self.dims)) != len(self.dims) or min(self.dims) < 1:
            raise ValueError(f"dims must be different sizes of at least 1, got {self.dims}")
        if len(self.weights) != len(self.dims) or not all(0 < weight < float("inf") for weight in self.weights):
            raise ValueError(f"weights must be a positive number for each of {self.dims}, got {self.weights}")

    def forward(
        self,
        embeds: Mapping[str, Tensor],
        temperature: Tensor | float,
        *,
        ids: Mapping[str, Tensor] | None = None,
        negatives: Mapping[str, Tensor] | None = None,
        negative_ids: Mapping[str, Tensor] | None = None,
    ) -> LossOutput:
        """Compare the rows of each pair of modalities; arguments are those of `InfoNCELoss`.

        Returns:
            The loss, with parts such as "text-image@64".

        Raises:
            ValueError, TypeError: as `InfoNCELoss`, and if a prefix is longer than the embeddings.
        """
        losses: list[Tensor] = []
        parts: dict[str, Tensor] = {}
        for dim, weight in zip(self.dims, self.weights, strict=True):
            output = self.loss(
                _prefixes(embeds, dim),
                temperature,
                ids=ids,
                negatives=_prefixes(negatives or {}, dim),
                negative_ids=negative_ids,
            )
            losses.append(weight * output.loss)
            parts |= {f"{name}@{dim}": part for name, part in output.parts.items()}
        return LossOutput(torch.stack(losses).sum(), parts)


def _prefixes(embeds: Mapping[str, Tensor], dim: int) -> dict[str, Tensor]:
    for name, rows in embeds.items():
        if rows.shape[-1] < dim:
            raise ValueError(f"the prefix of {dim} is longer than the embeddings of {name!r} ({rows.shape[-1]})")
    return {name: nn.functional.normalize(rows[..., :dim], dim=-1) for name, rows in embeds.items()}
