"""A teacher: the student also learns the similarities of a trained multimodal encoder."""

from collections.abc import Callable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...losses.contrastive import LossOutput
from ...losses.distillation import DistillationLoss
from ..checks import check_finite
from .arguments import LossArguments, pair_weights
from .model import load_multimodal
from .samples import Chunk, ModelInputs
from .text_checks import check_tokenizer

# Embeds with a model: the inputs and the number of rows that count → modality → [rows, D].
Embeds = Callable[[nn.Module, Mapping[str, Tensor], int], dict[str, Tensor]]


class Teacher:
    """Adds the distance between the student's and the teacher's similarities to a contrastive loss.

    Args:
        options: the teacher's repo, its weight, and the pairs that are compared.
        accelerator: gives the teacher's device and precision.

    Raises:
        ValueError: if the teacher's weights are no numbers, or its tokenizer does not fit them.
    """

    def __init__(self, options: LossArguments, accelerator: Accelerator):
        model = load_multimodal(options.teacher).eval().requires_grad_(False)
        self.inputs = ModelInputs.of(model)
        check_tokenizer(model, options.teacher)
        check_finite(model, options.teacher, "give weights from before they diverged")
        self.weight = options.distillation_weight
        self.loss = DistillationLoss(float(model.clamped_temperature), pair_weights(options))
        self.model, self.accelerator = model.to(accelerator.device), accelerator

    @torch.no_grad()
    def embed(self, chunks: Sequence[Chunk], embeds_of: Embeds) -> dict[str, Tensor]:
        """Embed all chunks: modality → [B, D of the teacher]."""
        with self.accelerator.autocast():
            parts = [embeds_of(self.model, chunk["teacher_inputs"], chunk["rows"]) for chunk in chunks]
        return {name: torch.cat([part[name] for part in parts]).float() for name in parts[0]}

    def add(
        self, output: LossOutput, embeds: Mapping[str, Tensor], temperature: Tensor, targets: Mapping[str, Tensor]
    ) -> LossOutput:
        """Add the teacher's loss, whose parts are called "distillation/PAIR"."""
        added = self.loss(embeds, temperature, targets)
        parts = {f"distillation/{name}": part for name, part in added.parts.items()}
        return LossOutput(output.loss + self.weight * added.loss, output.parts | parts)
