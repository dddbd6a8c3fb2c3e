"""What a run measures on its validation rows: retrieval, the loss, and zero-shot classification."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn

from ...data.names import split_names
from ...evaluation.embedded_columns import EmbeddedColumns, embed_columns
from ...evaluation.tasks import Labels, read_labels, recall_line, retrieval, retrieval_names, zero_shot
from ...losses.contrastive import stable_ids
from ...modalities import PICTURES
from ...models.modeling_multimodal_encoder import MultimodalEncoderModel
from ..averaging import share_batch_norm
from .arguments import DataArguments
from .rows import load_rows

LOSS = "validation_loss"
_OPTION = "--validation_split"


def metric_names(options: DataArguments) -> list[str]:
    """What may select the best weights of `make_validations`."""
    splits, labels = split_names(options.validation_split, _OPTION), options.validation_labels
    pictures = [modality for modality in PICTURES if modality in options.columns]
    shots = [f"zero-shot/{labels}/{modality}/top1_accuracy" for modality in pictures] if labels else []
    names = [*retrieval_names(options.columns), LOSS, *shots]
    return [_prefix(split, splits) + name for split in splits for name in names]


def curve_names(options: DataArguments, chosen_by: str) -> list[str]:
    """What a run's card shows over its steps: losses, recalls and accuracies, and what selects the best weights.

    Args:
        options: of the data.
        chosen_by: the metric that selects them.
    """
    shown = [name for name in metric_names(options) if name.endswith((LOSS, "_accuracy")) or "_recall@" in name]
    return list(dict.fromkeys(["loss", *shown, *filter(None, [chosen_by])]))


def _prefix(split: str, splits: Sequence[str]) -> str:
    return "" if split == splits[0] else f"{split}/"


class Validation:
    """The validation rows of a run. Every process measures together with the others.

    Args:
        rows: N rows.
        columns: modality → column.
        loss: what the run minimises.
        rows_of_a_step: how many rows a step compares; the loss depends on it.
        accelerator: of the run.
        labels: of the rows, for zero-shot classification; None measures none.
        templates: prompts of the labels.
    """

    def __init__(
        self,
        rows: Dataset,
        columns: dict[str, str],
        loss: nn.Module,
        rows_of_a_step: int,
        accelerator: Accelerator,
        labels: Labels | None = None,
        templates: Sequence[str] = (),
    ):
        self.rows, self.columns, self.loss = rows, columns, loss
        self.rows_of_a_step, self.accelerator = rows_of_a_step, accelerator
        self.labels, self.templates = labels, templates

    def measure(self, model: MultimodalEncoderModel) -> dict[str, float]:
        """The metrics of `retrieval` and `zero_shot`, and `validation_loss`, without a teacher's share.

        Masked negatives are no part of the loss here.

        Raises:
            ValueError: if a row cannot be read.
        """
        share_batch_norm(model)
        embedded = embed_columns(model, self.rows, self.columns, self.accelerator, show_progress_bar=False)
        metrics = {**retrieval(embedded), LOSS: self._loss(model, embedded)}
        if self.labels is not None:
            metrics |= zero_shot(model, embedded, self.labels, self.templates)
        return metrics

    @torch.no_grad()
    def _loss(self, model: MultimodalEncoderModel, embedded: EmbeddedColumns) -> float:
        """The mean over batches of the size of a step. What is left of the rows is too small a batch, and left out."""
        first = {name: np.unique(owners, return_index=True)[1] for name, owners in embedded.owners.items()}
        embeds = {name: embedded.embeds[name][torch.from_numpy(rows)] for name, rows in first.items()}
        ids = stable_ids(embedded.captions[row] for row in first["text"]).to(self.accelerator.device)
        count = len(ids)
        size = min(self.rows_of_a_step, count)
        losses = []
        for start in range(0, count - size + 1, size):
            own = slice(start + self.accelerator.process_index, start + size, self.accelerator.num_processes)
            part = {name: values[own] for name, values in embeds.items()}
            losses.append(self.loss(part, model.clamped_temperature, ids={"text": ids[own]}).loss)
        return float(torch.stack(losses).mean())


class Validations:
    """The splits that a run measures. The metrics of the first have plain names, those of others "SPLIT/NAME".

    Args:
        parts: split → its rows.
    """

    def __init__(self, parts: Mapping[str, Validation]):
        self._parts, self._splits = parts, list(parts)

    def measure(self, model: MultimodalEncoderModel) -> dict[str, float]:
        """The metrics of all splits, see `Validation.measure`."""
        metrics: dict[str, float] = {}
        for split, part in self._parts.items():
            prefix = _prefix(split, self._splits)
            metrics |= {f"{prefix}{name}": value for name, value in part.measure(model).items()}
        return metrics

    def lines(self, metrics: Mapping[str, float]) -> str:
        """Loss and recalls of each split, for people."""
        shown = []
        for split in self._splits:
            prefix = _prefix(split, self._splits)
            own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
            parts = [f"{own[LOSS]:.4f}", recall_line(own), *filter(None, [_zero_shot_line(own)])]
            shown.append(f"{prefix.rstrip('/') or 'validation'} {', '.join(parts)}")
        return "; ".join(shown)


def make_validations(
    options: DataArguments, loss: nn.Module, rows_of_a_step: int, accelerator: Accelerator
) -> Validations:
    """Read the splits of `--validation_split`.

    Raises:
        ValueError: if no data set has one of them, or a row has no label.
    """
    if options.validation_templates and not options.validation_labels:
        raise ValueError("--validation_templates are prompts for the labels of --validation_labels, which is not given")
    # Other captions and views of objects are for training.
    stored = replace(options, streaming=False, text_templates=[], regions_column="", names_column="")
    parts = {}
    for split in split_names(options.validation_split, _OPTION):
        rows = cast(Dataset, load_rows(stored, split, [options.validation_labels]))
        labels = read_labels(rows, options.validation_labels) if options.validation_labels else None
        parts[split] = Validation(
            rows, options.columns, loss, rows_of_a_step, accelerator, labels, options.validation_templates
        )
    return Validations(parts)


def _zero_shot_line(metrics: Mapping[str, float]) -> str:
    """The accuracies of `zero_shot`, for people: "zero-shot noun: image 0.21, depth 0.18"."""
    found = {tuple(name.split("/")[1:3]): value for name, value in metrics.items() if name.endswith("/top1_accuracy")}
    if not found:
        return ""
    column = next(iter(found))[0]
    return f"zero-shot {column}: " + ", ".join(f"{modality} {value:.2f}" for (_, modality), value in found.items())
