"""Embeddings of the rows of a data set, each row embedded by one of the processes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from datasets import Image, Value
from torch import Tensor

from ..modalities import MODALITIES, encoder

# What the encoders call an input in their messages: its number among those that they were given.
_NUMBERED = re.compile(r"^(?:text|image|map|item) (\d+)(?=[: ])")


@dataclass(frozen=True)
class EmbeddedRows:
    """Embeddings of N rows, in the order of the rows.

    Args:
        embeds: modality → [M, D] float32, on the model's device.
        owners: modality → [M], ascending: which row each is of. A row of several captions has several of "text".
        captions: what was embedded as "text".
        kept: [N] booleans: false for rows that were skipped, of which nothing is here.
    """

    embeds: dict[str, Tensor]
    owners: dict[str, np.ndarray]
    captions: list[str]
    kept: np.ndarray


@dataclass(frozen=True)
class _Share:
    """What one process made of its rows in one modality: embeddings, which row each is of, and the rows skipped."""

    embeds: np.ndarray
    owners: np.ndarray
    skipped: np.ndarray


def embed_rows(
    model: Any,
    rows: Any,
    columns: Mapping[str, str],
    processes: PartialState | Accelerator,
    **options: Any,
) -> EmbeddedRows:
    """Embed columns of a data set. Every process calls this, embeds its share, and gets all of it.

    Args:
        model: a multimodal encoder, not wrapped; or a depth encoder.
        rows: N rows of a data set, not streamed.
        columns: modality → column. A text may be a list of captions.
        processes: which of how many this one is.
        options: what the model's `encode...` takes, such as `batch_size`, or `on_error="skip"`, which leaves out rows
            of which anything cannot be read.

    Raises:
        ValueError: if a row cannot be read, which is named; or if none can.
    """
    if not processes.is_main_process:
        options["show_progress_bar"] = False
    own = np.arange(processes.process_index, len(rows), processes.num_processes)
    captions = _captions(rows, columns["text"]) if "text" in columns else []
    shares: dict[str, _Share] = {}
    for modality in sorted(columns, key=MODALITIES.index):
        items, owners = _pictures(rows, own, columns[modality]), own
        if modality == "text":
            items = [text for row in own for text in captions[row]]
            owners = np.repeat(own, [len(captions[row]) for row in own])
        try:
            shares[modality] = _embed(encoder(model, modality), items, owners, options)
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {columns[modality]!r}: {_with_row(str(error), owners)}") from error
    return _joined(gather_object([shares]), captions, len(rows), model.device)


def _embed(encode: Any, items: Any, owners: np.ndarray, options: Mapping[str, Any]) -> _Share:
    embeds = encode(items, **options, convert_to="numpy")
    kept = np.ones(len(owners), dtype=bool)
    if options.get("on_error") == "skip":
        embeds, kept = embeds
    return _Share(embeds, owners[kept], owners[~kept])


def _joined(
    processes: list[dict[str, _Share]], captions: list[list[Any]], count: int, device: torch.device
) -> EmbeddedRows:
    """The shares of all processes, in the order of the rows."""
    kept = np.ones(count, dtype=bool)
    for shares in processes:
        for share in shares.values():
            kept[share.skipped] = False
    if not kept.any():
        raise ValueError(f"none of {count} rows can be read")
    embeds, owners = {}, {}
    for modality in processes[0]:
        of_all = [shares[modality] for shares in processes]
        owner = np.concatenate([share.owners for share in of_all])
        order = owner.argsort(kind="stable")  # the captions of a row stay in their order
        order = order[kept[owner[order]]]
        embeds[modality] = torch.from_numpy(np.concatenate([share.embeds for share in of_all])[order]).to(device)
        owners[modality] = owner[order]
    texts = [text for row in np.flatnonzero(kept) for text in captions[row]] if captions else []
    return EmbeddedRows(embeds, owners, texts, kept)


def _captions(rows: Any, column: str) -> list[list[Any]]:
    """Those of each row, one at least: what is no text is left to the encoder to refuse."""
    captions = list(rows[column])
    return [list(item) if isinstance(item, list) and item else [item] for item in captions]


def _pictures(rows: Any, own: np.ndarray, column: str) -> Any:
    """A column that is decoded while it is read."""
    feature = rows.features[column]
    if isinstance(feature, (Image, dict)) or feature == Value("binary"):
        rows = rows.cast_column(column, Image())
    return rows.select(own)[column]


def _with_row(message: str, owners: np.ndarray) -> str:
    """The message, with the row in the data set for the number in the share."""
    return _NUMBERED.sub(lambda found: f"row {owners[int(found[1])]}", message)
