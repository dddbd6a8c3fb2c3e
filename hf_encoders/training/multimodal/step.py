"""One optimizer step: from micro-batches, whose rows are all negatives of each other, to gradients."""

from collections.abc import Collection, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...losses.cached import cached_backward
from ...losses.contrastive import InfoNCELoss, LossOutput, SigmoidLoss
from ...losses.matryoshka import MatryoshkaLoss
from ..accelerator import without_sync
from ..division import Division, seed_of
from ..sharding import is_sharded
from .arguments import LossArguments, RunArguments, pair_weights
from .samples import Batch, Chunk
from .teacher import WORDS, AddedLoss

_EMBEDS = {"text": "text_embeds", "image": "image_embeds", "depth": "depth_embeds"}
_MASKED = "masked"  # name of the embeddings of masked images


def make_loss(options: LossArguments, modalities: Collection[str]) -> nn.Module:
    """Make the contrastive loss that the options name.

    Raises:
        ValueError: if it leaves out one of the modalities.
    """
    weights = pair_weights(options)
    paired = {modality for pair in weights or () for modality in pair.split("-")}
    for modality in modalities if paired else ():
        if modality not in paired:
            raise ValueError(f"pair_weights has no pair with {modality}: add one, or leave out --{modality}_column")
    loss: InfoNCELoss | SigmoidLoss
    if options.loss == "infonce":
        loss = InfoNCELoss(weights, label_smoothing=options.label_smoothing, symmetric=not options.text_to_image_only)
    else:
        loss = SigmoidLoss(weights)
    return MatryoshkaLoss(loss, options.matryoshka_dims) if options.matryoshka_dims else loss


class Step:
    """Adds the gradients of a step to the parameters.

    Args:
        accelerator: the accelerator that prepared the model.
        model: the prepared model.
        loss: see `make_loss`.
        run: chunk size and treatment of BatchNorm.
        added: losses beside it, such as a teacher's.
        division: how the rows of a step are divided.
        is_whole: whether a micro-batch is embedded at once, and BatchNorm normalises it by itself; by default where a
            step has one. It may have several here that were planned for as many processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        loss: nn.Module,
        run: RunArguments,
        added: Sequence[AddedLoss] = (),
        division: Division | None = None,
        is_whole: bool | None = None,
    ):
        self.accelerator, self.model, self.loss, self.run, self.added = accelerator, model, loss, run, added
        processes = accelerator.num_processes
        self.division = division or Division(run.batch_size, run.gradient_accumulation_steps, processes, processes)
        parts = run.chunk_size or run.gradient_accumulation_steps > 1
        self.is_whole = not parts if is_whole is None else is_whole
        self.template: Chunk | None = None  # a chunk of which no row counts

    def __call__(self, micro_batches: Sequence[Batch], finished: int = 0) -> LossOutput:
        """Compute the loss over all micro-batches of all processes, and its gradients.

        Args:
            micro_batches: of this process.
            finished: steps before this one; dropout depends on it, the seed and the place in the step alone.

        Raises:
            ValueError: if no row of the first step can be read.
        """
        chunks = [
            chunk for number, batch in enumerate(micro_batches) for chunk in self._chunks(batch, number, finished)
        ]
        if self.template is None and chunks:
            self.template = _without_rows(chunks[0])
        if self.template is None:
            raise ValueError("no row of the first step can be read: are the columns the right ones?")
        # A process whose rows are all bad takes part too, because the others wait for it.
        chunks = chunks or [self.template]
        if is_sharded(self.accelerator):  # all processes gather the weights together at each call of the model
            most = self.accelerator.gather(torch.tensor([len(chunks)], device=self.accelerator.device)).max()
            chunks += [self.template] * (int(most) - len(chunks))
        ids = {
            name: torch.cat([chunk["ids"][name] for chunk in chunks]).to(self.accelerator.device)
            for name in chunks[0]["ids"]
        }

        targets = [one.targets(chunks, self._embeds) for one in self.added]

        def compare(embeds: Mapping[str, Tensor]) -> LossOutput:
            rows = {name: values for name, values in embeds.items() if name in _EMBEDS}
            negatives = {"image": embeds[_MASKED]} if _MASKED in embeds else None
            temperature = self.accelerator.unwrap_model(self.model).clamped_temperature
            output = self.loss(rows, temperature, ids=ids, negatives=negatives)
            for one, wanted in zip(self.added, targets, strict=True):
                output = one.add(output, embeds, temperature, wanted)
            return output

        # The settings decide, not the number of chunks: they are the same on every process.
        if self.run.gradient_accumulation_steps > 1 or not self.is_whole:
            return cached_backward(
                self.model,
                chunks,
                self._embed,
                compare,
                batch_norm="each" if self.is_whole else self.run.batch_norm,  # type: ignore[arg-type]  # as parsed
                no_sync=lambda: without_sync(self.accelerator, self.model),
                scaler=self.accelerator.scaler,
            )
        output = compare(self._embed(chunks[0]))
        self.accelerator.backward(output.loss)
        return output

    def _chunks(self, batch: Batch, number: int, finished: int) -> list[Chunk]:
        """The chunks of a micro-batch of this process, each with its seed."""
        place = self.division.number(number, self.accelerator.process_index)
        chunks = _chunks(batch, self.run.chunk_size)
        for part, chunk in enumerate(chunks):
            chunk["seed"] = seed_of(self.run.seed, finished, place, part)
        return chunks

    def _embed(self, chunk: Chunk) -> dict[str, Tensor]:
        torch.manual_seed(chunk["seed"])
        embeds = self._embeds(self.model, chunk["inputs"], chunk["rows"])
        if (masked := chunk["masked"]) is not None:
            count = len(masked)
            if not count and is_sharded(self.accelerator):  # as above; this image does not count
                masked = chunk["inputs"]["pixel_values"][:1]
            # Not together with the images: rounding would differ from the legacy training's.
            embeds[_MASKED] = (
                self.model(pixel_values=masked.to(self.accelerator.device)).image_embeds[:count]
                if len(masked)
                else embeds["image"][:0]
            )
        if chunk["word_inputs"]:
            words = self._embeds(self.model, chunk["word_inputs"], len(chunk["words"]))
            embeds[WORDS] = words["text"]
        return embeds

    def _embeds(self, model: nn.Module, inputs: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        """Modality → [rows, D]."""
        device = self.accelerator.device
        outputs = model(**{name: value.to(device, non_blocking=True) for name, value in inputs.items()})
        return {name: outputs[key][:rows] for name, key in _EMBEDS.items() if outputs.get(key) is not None}


def _without_rows(chunk: Chunk) -> Chunk:
    """A chunk of which no row counts. It holds one row, because towers cannot embed nothing."""
    empty = torch.empty(0, dtype=torch.long)
    return {
        "inputs": {name: values[:1] for name, values in chunk["inputs"].items()},
        "teacher_inputs": {name: values[:1] for name, values in chunk["teacher_inputs"].items()},
        "captions": [],
        "words": [],
        "word_inputs": {name: values[:1] for name, values in chunk["word_inputs"].items()},
        "ids": dict.fromkeys(chunk["ids"], empty),
        "masked": None if chunk["masked"] is None else chunk["masked"][:0],
        "rows": 0,
        "seed": 0,
    }


def _chunks(batch: Batch, size: int) -> list[Chunk]:
    """Cut a micro-batch into chunks of at most `size` rows, each with its share of the masked images."""
    count = len(batch["rows"])
    size = size or max(count, 1)
    return [_rows_of(batch, slice(start, start + size)) for start in range(0, count, size)]


def _rows_of(batch: Batch, rows: slice) -> Chunk:
    return {
        "inputs": {name: values[rows] for name, values in batch["inputs"].items()},
        "teacher_inputs": {name: values[rows] for name, values in batch["teacher_inputs"].items()},
        "captions": batch["captions"][rows],
        "words": batch["words"][rows],
        "word_inputs": {name: values[rows] for name, values in batch["word_inputs"].items()},
        "ids": {name: values[rows] for name, values in batch["ids"].items()},
        "masked": None if batch["masked"] is None else batch["masked"][rows],
        "rows": len(batch["rows"][rows]),
        "seed": 0,
    }
