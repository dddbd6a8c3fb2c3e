"""Losses made of others: Matryoshka prefixes, and a teacher's similarities."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .contrastive import (
    InfoNCELoss,
    LossOutput,
    SigmoidLoss,
    candidate_logits,
    checked_temperature,
    checked_weights,
    present_pairs,
    weighted_mean,
)
from .gathering import gather_batch


class MatryoshkaLoss(nn.Module):
    """The sum of a loss over prefixes of the embeddings, each of length 1 again (https://arxiv.org/abs/2205.13147).

    Trained with it, embeddings may be cut to these sizes (`truncate_dim`).

    Args:
        loss: the loss of each prefix.
        dims: sizes of the prefixes. Name the whole size too, if it is to be trained.
        weights: of the prefixes; by default 1 for each.

    Raises:
        ValueError: if a size or weight does not exist, or is named twice.
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
        """Compare; arguments are those of `InfoNCELoss`.

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


class DistillationLoss(nn.Module):
    """How far the similarities are from a teacher's: the divergence KL(teacher || student) of each row's softmax.

    As CRD of CLIP-KD (https://arxiv.org/abs/2307.12732): the distributions are over the rows of all ranks, in both
    directions of each pair. The teacher's dimension need not be the student's.

    Args:
        teacher_temperature: what the teacher's similarities are divided by: the one it was trained with.
        pair_weights: as those of `InfoNCELoss`.

    Raises:
        ValueError: if the temperature is not positive, or a pair or weight does not exist.
    """

    def __init__(self, teacher_temperature: float, pair_weights: Mapping[str, float] | None = None):
        super().__init__()
        if not teacher_temperature > 0:
            raise ValueError(f"teacher_temperature must be positive, got {teacher_temperature}")
        self.teacher_temperature = teacher_temperature
        self.pair_weights = checked_weights(pair_weights)

    def forward(
        self, embeds: Mapping[str, Tensor], temperature: Tensor | float, teacher_embeds: Mapping[str, Tensor]
    ) -> LossOutput:
        """Compare.

        Args:
            embeds: the student's, see `InfoNCELoss`.
            temperature: the student's.
            teacher_embeds: modality → [B, D of the teacher] unit vectors of the same inputs, without gradient. Pairs
                that the teacher does not know are left out.

        Raises:
            ValueError, TypeError: if names or shapes do not fit together, or no pair is left.
        """
        student = gather_batch({name: rows for name, rows in embeds.items() if name in teacher_embeds})
        teacher = gather_batch(
            {name: teacher_embeds[name].detach().to(rows) for name, rows in embeds.items() if name in teacher_embeds}
        )
        if teacher.count != student.count:
            raise ValueError(f"the teacher has {teacher.count} rows, the student {student.count}")
        temperature = checked_temperature(temperature, student)
        teacher_temperature = checked_temperature(self.teacher_temperature, teacher)
        sums = {}
        for pair, (one, other) in present_pairs(student, self.pair_weights).items():
            directions = [
                nn.functional.kl_div(
                    candidate_logits(student, *names, temperature).log_softmax(1),
                    candidate_logits(teacher, *names, teacher_temperature).log_softmax(1),
                    reduction="sum",
                    log_target=True,
                )
                for names in ((one, other), (other, one))
            ]
            sums[pair] = (directions[0] + directions[1]) / 2
        return weighted_mean(sums, self.pair_weights, student.count)


def _prefixes(embeds: Mapping[str, Tensor], dim: int) -> dict[str, Tensor]:
    for name, rows in embeds.items():
        if rows.shape[-1] < dim:
            raise ValueError(f"the prefix of {dim} is longer than the embeddings of {name!r} ({rows.shape[-1]})")
    return {name: nn.functional.normalize(rows[..., :dim], dim=-1) for name, rows in embeds.items()}
