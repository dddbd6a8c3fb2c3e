"""One optimizer step: micro-batches, all negatives of each other, to gradients; cached where there are several."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...losses.cached import cached_backward
from ...losses.contrastive import InfoNCELoss, LossOutput, SigmoidLoss
from ...losses.matryoshka import MatryoshkaLoss
from ..sharding import is_sharded
from .arguments import LossArguments, RunArguments
from .teacher import Teacher

_EMBEDS = {"text": "text_embeds", "image": "image_embeds", "depth": "depth_embeds"}
_MASKED = "masked"  # embeddings of masked copies of images


def make_loss(options: LossArguments, modalities: Collection[str]) -> nn.Module:
    """The contrastive loss that the options name.

    Raises:
        ValueError: if it leaves out one of the modalities.
    """
    paired = {modality for pair in options.pair_weights or () for modality in pair.split("-")}
    for modality in modalities if paired else ():
        if modality not in paired:
            raise ValueError(f"pair_weights has no pair with {modality}: add one, or leave out --{modality}_column")
    loss: Any
    if options.loss == "infonce":
        loss = InfoNCELoss(
            options.pair_weights, label_smoothing=options.label_smoothing, symmetric=not options.text_to_image_only
        )
    else:
        loss = SigmoidLoss(options.pair_weights)
    return MatryoshkaLoss(loss, options.matryoshka_dims) if options.matryoshka_dims else loss


class Step:
    """Adds the gradients of a step to the parameters.

    Args:
        accelerator: what prepared the model.
        model: the prepared model.
        loss: see `make_loss`.
        run: chunk size and what BatchNorm does.
        teacher: whose similarities are learned too, if there is one.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        loss: nn.Module,
        run: RunArguments,
        teacher: Teacher | None = None,
    ):
        self.accelerator, self.model, self.loss, self.run, self.teacher = accelerator, model, loss, run, teacher
        self.template: dict[str, Any] | None = None  # a chunk of no rows

    def __call__(self, micro_batches: Sequence[dict[str, Any]]) -> LossOutput:
        """The loss over all micro-batches of all processes.

        Raises:
            ValueError: if no row of the first step can be read.
        """
        chunks = [chunk for batch in micro_batches for chunk in _chunks(batch, self.run.chunk_size)]
        if self.template is None and chunks:
            self.template = _without_rows(chunks[0])
        if self.template is None:
            raise ValueError("no row of the first step can be read: are the columns the right ones?")
        # A process whose rows are all bad: the others wait for its part.
        chunks = chunks or [self.template]
        if is_sharded(self.accelerator):  # all processes gather weights together, at each call of the model
            most = self.accelerator.gather(torch.tensor([len(chunks)], device=self.accelerator.device)).max()
            chunks += [self.template] * (int(most) - len(chunks))
        ids = {
            name: torch.cat([chunk["ids"][name] for chunk in chunks]).to(self.accelerator.device)
            for name in chunks[0]["ids"]
        }

        taught = self.teacher.embed(chunks, self._embeds) if self.teacher is not None else {}

        def compare(embeds: Mapping[str, Tensor]) -> LossOutput:
            rows = {name: values for name, values in embeds.items() if name != _MASKED}
            negatives = {"image": embeds[_MASKED]} if _MASKED in embeds else None
            temperature = self.accelerator.unwrap_model(self.model).clamped_temperature
            output = self.loss(rows, temperature, ids=ids, negatives=negatives)
            return output if self.teacher is None else self.teacher.add(output, rows, temperature, taught)

        # By the settings, which are the same on every process; the number of chunks may not be.
        if self.run.chunk_size or self.run.gradient_accumulation_steps > 1:
            return cached_backward(
                self.model,
                chunks,
                self._embed,
                compare,
                batch_norm=self.run.batch_norm,  # type: ignore[arg-type]  # argparse checked it
                no_sync=lambda: self.accelerator.no_sync(self.model),
                scaler=self.accelerator.scaler,
            )
        output = compare(self._embed(chunks[0]))
        self.accelerator.backward(output.loss)
        return output

    def _embed(self, chunk: dict[str, Any]) -> dict[str, Tensor]:
        embeds = self._embeds(self.model, chunk["inputs"], chunk["rows"])
        if (masked := chunk["masked"]) is not None:
            count = len(masked)
            if not count and is_sharded(self.accelerator):  # as above; what is embedded does not count
                masked = chunk["inputs"]["pixel_values"][:1]
            # By themselves: together with the images, rounding would not be that of the legacy training.
            embeds[_MASKED] = (
                self.model(pixel_values=masked.to(self.accelerator.device)).image_embeds[:count]
                if len(masked)
                else embeds["image"][:0]
            )
        return embeds

    def _embeds(self, model: nn.Module, inputs: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Modality → [rows, D]."""
        device = self.accelerator.device
        outputs = model(**{name: value.to(device, non_blocking=True) for name, value in inputs.items()})
        return {name: outputs[key][:rows] for name, key in _EMBEDS.items() if outputs.get(key) is not None}


def _without_rows(chunk: dict[str, Any]) -> dict[str, Any]:
    """A chunk that is embedded, as towers cannot embed nothing, and of which no row counts."""
    empty = torch.empty(0, dtype=torch.long)
    return {
        "inputs": {name: values[:1] for name, values in chunk["inputs"].items()},
        "teacher_inputs": {name: values[:1] for name, values in chunk["teacher_inputs"].items()},
        "ids": dict.fromkeys(chunk["ids"], empty),
        "masked": None if chunk["masked"] is None else chunk["masked"][:0],
        "rows": 0,
    }


def _chunks(batch: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """A micro-batch in parts of at most `size` rows, each with its share of the masked images."""
    count = len(batch["rows"])
    size = size or max(count, 1)
    chunks = []
    for start in range(0, count, size):
        part = slice(start, start + size)
        chunk = {
            name: {key: values[part] for key, values in batch[name].items()}
            for name in ("inputs", "teacher_inputs", "ids")
        }
        masked = None if batch["masked"] is None else batch["masked"][part]
        chunks.append(chunk | {"masked": masked, "rows": len(batch["rows"][part])})
    return chunks
