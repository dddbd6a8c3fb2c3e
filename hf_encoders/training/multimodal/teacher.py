"""A teacher: a trained multimodal encoder whose similarities the student learns too."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ...losses.contrastive import LossOutput
from ...losses.matryoshka import DistillationLoss
from .arguments import LossArguments
from .model import load_multimodal
from .samples import ModelInputs


class Teacher:
    """Adds to a contrastive loss how far the similarities are from the teacher's.

    Args:
        options: the teacher's repo, its weight, and the pairs that are compared.
        accelerator: where it computes, and in which precision.
    """

    def __init__(self, options: LossArguments, accelerator: Accelerator):
        model = load_multimodal(options.teacher).eval().requires_grad_(False)
        self.inputs = ModelInputs.of(model)
        self.weight = options.distillation_weight
        self.loss = DistillationLoss(float(model.clamped_temperature), options.pair_weights)
        self.model, self.accelerator = model.to(accelerator.device), accelerator

    @torch.no_grad()
    def embed(self, chunks: Sequence[Mapping[str, Any]], embeds_of: Any) -> dict[str, Tensor]:
        """Modality → [B, D of the teacher], of all chunks; `embeds_of` takes model, inputs and number of rows."""
        with self.accelerator.autocast():
            parts = [embeds_of(self.model, chunk["teacher_inputs"], chunk["rows"]) for chunk in chunks]
        return {name: torch.cat([part[name] for part in parts]).float() for name in parts[0]}

    def add(
        self, output: LossOutput, embeds: Mapping[str, Tensor], temperature: Tensor, taught: Mapping[str, Tensor]
    ) -> LossOutput:
        """The loss with the teacher's; its parts are called "distillation/PAIR"."""
        added = self.loss(embeds, temperature, taught)
        parts = {f"distillation/{name}": part for name, part in added.parts.items()}
        return LossOutput(output.loss + self.weight * added.loss, output.parts | parts)
