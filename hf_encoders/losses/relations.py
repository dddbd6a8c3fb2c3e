"""A loss that compares how like each other the rows of one modality are, with what a teacher says of them."""

import torch
from torch import Tensor, nn

from .gathering import gather_batch, global_mean

_NAME = "text"  # what the gathered rows are called here; any modality would do


class RelationLoss(nn.Module):
    """The divergence KL(teacher || student) between the softmaxes of each row's similarities to the others.

    It is the loss of SEED (https://arxiv.org/abs/2101.04731) over the rows of all ranks in the place of its queue. The
    teacher may have another dimension than the student, and another modality of the same rows.
    """

    def forward(self, embeds: Tensor, temperature: Tensor | float, targets: Tensor) -> Tensor:
        """Compare the student with the teacher.

        Args:
            embeds: [B, D] unit vectors of the student. B may differ from rank to rank and may be 0; every rank must
                call this.
            temperature: divides the similarities of both, which are to be the same numbers.
            targets: [B, D of the teacher] unit vectors, without gradient.

        Returns:
            A scalar, the mean over all rows; zero if there is one row only.

        Raises:
            ValueError, TypeError: if shapes do not fit together.
        """
        student = gather_batch({_NAME: embeds})
        teacher = gather_batch({_NAME: targets.detach().to(embeds)})
        if teacher.count != student.count:
            raise ValueError(f"the teacher has {teacher.count} rows, the student {student.count}")
        own = student.own(_NAME)
        itself = torch.zeros(len(own), student.count, dtype=torch.bool, device=own.device)
        itself.diagonal(student.start).fill_(True)
        with torch.autocast(own.device.type, enabled=False):
            found = own @ student.embeds[_NAME].T / temperature
            wanted = teacher.own(_NAME) @ teacher.embeds[_NAME].T / temperature
        # A row is always its own nearest: it tells nothing. A large negative number keeps gradients finite.
        least = torch.finfo(found.dtype).min
        found, wanted = (values.masked_fill(itself, least).log_softmax(1) for values in (found, wanted))
        divergence = nn.functional.kl_div(found, wanted, reduction="none", log_target=True)
        return global_mean(divergence.masked_fill(itself, 0).sum()[None], student.count)[0]
