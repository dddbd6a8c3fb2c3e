"""What a run measures on its validation rows: retrieval, and the loss."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn

from ...evaluation.embedded_columns import EmbeddedColumns, embed_columns
from ...evaluation.tasks import recall_line, retrieval, retrieval_names
from ...losses.contrastive import stable_ids
from ...models.modeling_multimodal_encoder import MultimodalEncoderModel
from ..averaging import share_batch_norm

LOSS = "validation_loss"


def splits_of(option: str) -> list[str]:
    """The splits of `--validation_split`: one, or several with commas between them.

    Raises:
        ValueError: if one is named twice.
    """
    splits = [split.strip() for split in option.split(",") if split.strip()]
    if len(set(splits)) < len(splits):
        raise ValueError(f"--validation_split {option}: names a split twice")
    return splits


def metric_names(columns: Mapping[str, str], splits: Sequence[str]) -> list[str]:
    """What `Validations` measures."""
    names = [*retrieval_names(columns), LOSS]
    return [_prefix(split, splits) + name for split in splits for name in names]


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
    """

    def __init__(
        self, rows: Dataset, columns: dict[str, str], loss: nn.Module, rows_of_a_step: int, accelerator: Accelerator
    ):
        self.rows, self.columns, self.loss = rows, columns, loss
        self.rows_of_a_step, self.accelerator = rows_of_a_step, accelerator

    def measure(self, model: MultimodalEncoderModel) -> dict[str, float]:
        """The metrics of `retrieval`, and `validation_loss`, without masked negatives and a teacher's share.

        Raises:
            ValueError: if a row cannot be read.
        """
        share_batch_norm(model)
        embedded = embed_columns(model, self.rows, self.columns, self.accelerator, show_progress_bar=False)
        return {**retrieval(embedded), LOSS: self._loss(model, embedded)}

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
            shown.append(f"{prefix.rstrip('/') or 'validation'} {own[LOSS]:.4f}, {recall_line(own)}")
        return "; ".join(shown)
