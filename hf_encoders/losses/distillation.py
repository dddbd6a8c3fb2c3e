"""A loss that compares a student's similarities with a teacher's."""

from collections.abc import Mapping

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


class DistillationLoss(nn.Module):
    """The divergence KL(teacher || student) between the softmaxes of each row's similarities.

    It is CRD of CLIP-KD (https://arxiv.org/abs/2307.12732): the distributions are over the rows of all ranks, in both
    directions of each pair. The teacher may have another dimension than the student.

    Args:
        teacher_temperature: divides the teacher's similarities; the temperature that it was trained with.
        pair_weights: as for `InfoNCELoss`.

    Raises:
        ValueError: if the temperature is not positive, or a pair or weight is invalid.
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
        """Compare the student with the teacher.

        Args:
            embeds: the student's embeddings, see `InfoNCELoss`.
            temperature: the student's temperature.
            teacher_embeds: modality → [B, D of the teacher] unit vectors of the same inputs, without gradient. Pairs
                that the teacher does not have are left out.

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
        for pair, (first, second) in present_pairs(student, self.pair_weights).items():
            directions = [
                nn.functional.kl_div(
                    candidate_logits(student, *names, temperature).log_softmax(1),
                    candidate_logits(teacher, *names, teacher_temperature).log_softmax(1),
                    reduction="sum",
                    log_target=True,
                )
                for names in ((first, second), (second, first))
            ]
            sums[pair] = (directions[0] + directions[1]) / 2
        return weighted_mean(sums, self.pair_weights, student.count)
