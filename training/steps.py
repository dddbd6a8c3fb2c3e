"""One optimizer step: micro-batches, all negatives of each other, to gradients; cached where there are several."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from arguments import LossArguments, RunArguments
from hf_encoders.cached_loss import cached_backward
from hf_encoders.loss_wrappers import MatryoshkaLoss
from hf_encoders.losses import InfoNCELoss, LossOutput, SigmoidLoss

_EMBEDS = {"text": "text_embeds", "image": "image_embeds", "depth": "depth_embeds"}
_MASKED = "masked"  # embeddings of masked copies of images


def make_loss(options: LossArguments) -> nn.Module:
    """The contrastive loss that the options name."""
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
        has_masked: whether batches bring masked copies of images.
    """

    def __init__(
        self, accelerator: Accelerator, model: nn.Module, loss: nn.Module, run: RunArguments, has_masked: bool
    ):
        self.accelerator, self.model, self.loss, self.run = accelerator, model, loss, run
        self.has_masked = has_masked
        self.template: dict[str, Tensor] | None = None

    def __call__(self, micro_batches: Sequence[dict[str, Any]]) -> LossOutput:
        """The loss over all micro-batches of all processes.

        Raises:
            ValueError: if no row of the first step can be read.
        """
        chunks = [chunk for batch in micro_batches for chunk in _chunks(batch, self.run.chunk_size)]
        chunks = chunks or [self._without_rows()]
        self.template = self.template or {name: value[:1] for name, value in chunks[0]["inputs"].items()}
        ids = {
            name: torch.cat([chunk["ids"][name] for chunk in chunks]).to(self.accelerator.device)
            for name in chunks[0]["ids"]
        }

        def compare(embeds: Mapping[str, Tensor]) -> LossOutput:
            rows = {name: values for name, values in embeds.items() if name != _MASKED}
            negatives = {"image": embeds[_MASKED]} if _MASKED in embeds else None
            temperature = self.accelerator.unwrap_model(self.model).clamped_temperature
            return self.loss(rows, temperature, ids=ids, negatives=negatives)

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
        device, rows = self.accelerator.device, chunk["rows"]
        outputs = self.model(**{name: value.to(device, non_blocking=True) for name, value in chunk["inputs"].items()})
        embeds = {name: outputs[key][:rows] for name, key in _EMBEDS.items() if outputs.get(key) is not None}
        if (masked := chunk["masked"]) is not None:
            # By themselves: together with the images, rounding would not be that of the legacy training.
            embeds[_MASKED] = (
                self.model(pixel_values=masked.to(device)).image_embeds if len(masked) else embeds["image"][:0]
            )
        return embeds

    def _without_rows(self) -> dict[str, Any]:
        """A chunk of no rows, for a process whose rows are all bad: the others wait for its part."""
        if self.template is None:
            raise ValueError("no row of the first step can be read: are the columns the right ones?")
        empty = torch.empty(0, dtype=torch.long)
        kinds = {"input_ids": "text", "pixel_values": "image", "depth_values": "depth"}
        ids = {kind: empty for name, kind in kinds.items() if name in self.template}
        masked = self.template["pixel_values"][:0] if self.has_masked else None
        return {"inputs": self.template, "ids": ids, "masked": masked, "rows": 0}


def _chunks(batch: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """A micro-batch in parts of at most `size` rows, each with its share of the masked images."""
    count = len(batch["rows"])
    size = size or max(count, 1)
    chunks = []
    for start in range(0, count, size):
        part = slice(start, start + size)
        inputs = {name: values[part] for name, values in batch["inputs"].items()}
        ids = {name: values[part] for name, values in batch["ids"].items()}
        masked = None if batch["masked"] is None else batch["masked"][part]
        chunks.append({"inputs": inputs, "ids": ids, "masked": masked, "rows": len(batch["rows"][part])})
    return chunks
