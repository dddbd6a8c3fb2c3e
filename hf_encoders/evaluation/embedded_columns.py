"""Embeddings of the columns of a data set, each row embedded by one of the processes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias, TypedDict, Unpack

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from datasets import Column, Dataset
from torch import Tensor

from ..arrays import Indices, Mask, Vectors
from ..data.cells import PictureItems, path_of, picture_items, undecoded
from ..data.skipped import why
from ..modalities import MODALITIES, Encoder, TextTask, encoder
from ..models.depth_units import DepthUnits
from ..models.encoding import EncodeOptions
from ..models.input_errors import InputError, printable

# Raw inputs of a column, decoded while they are read.
_Items: TypeAlias = Column | PictureItems | list[object]


class _Options(EncodeOptions, total=False):
    batch_size: int


class SkippedCell(TypedDict):
    """A cell that cannot be read: its row, its column, and what is wrong."""

    index: int
    column: str
    reason: str


@dataclass(frozen=True)
class EmbeddedColumns:
    """Embeddings of N rows, in the order of the rows.

    Args:
        embeds: modality → [M, D] float32, on the model's device.
        owners: modality → [M], ascending: the row of each embedding. A row with several captions has several of "text".
        captions: the texts that were embedded as "text".
        kept: [N] booleans: false for rows that were skipped, which have no embedding.
        skipped: these rows, with the column that cannot be read and why: one entry per column.
    """

    embeds: dict[str, Tensor]
    owners: dict[str, Indices]
    captions: list[str]
    kept: Mask
    skipped: list[SkippedCell] = field(default_factory=list)


@dataclass(frozen=True)
class _Share:
    """The result of one process in one modality: embeddings, the row of each, and the cells skipped."""

    embeds: Vectors
    owners: Indices
    skipped: list[SkippedCell]


def embed_columns(
    model: Encoder,
    rows: Dataset,
    columns: Mapping[str, str],
    processes: PartialState | Accelerator,
    depth_units: DepthUnits | None = None,
    text_task: TextTask | None = None,
    **options: Unpack[_Options],
) -> EmbeddedColumns:
    """Embed columns of a data set. Every process calls this, embeds its share, and gets all embeddings.

    Args:
        model: a multimodal encoder, not wrapped; a depth encoder; or another, see `load_encoder`.
        rows: N rows of a data set, not streamed.
        columns: modality → column. A text may be a list of captions.
        processes: this process and their number.
        depth_units: options of `encode_depth` alone, such as `unit_scale`.
        text_task: what texts are for, which decides on the model's prompt: see `tower_of`.
        options: options of the model's `encode...`, such as `batch_size`, or `on_error="skip"`, which leaves out rows
            with anything that cannot be read.

    Raises:
        ValueError: if a row cannot be read, which is named; or if none can.
    """
    if not processes.is_main_process:
        options["show_progress_bar"] = False
    own = np.arange(processes.process_index, len(rows), processes.num_processes)
    captions = _captions(rows, columns["text"]) if "text" in columns else []
    shares: dict[str, _Share] = {}
    for modality in sorted(columns, key=MODALITIES.index):
        items: _Items
        if modality == "text":
            items = [text for row in own for text in captions[row]]
            owners = np.repeat(own, [len(captions[row]) for row in own])
        else:
            items = picture_items(rows.select(own), columns[modality])
            owners = own
        try:
            encode = encoder(model, modality, depth_units, text_task)
            shares[modality] = _embed(encode, items, owners, options, columns[modality])
        except (ValueError, TypeError) as error:
            column = columns[modality]
            raise ValueError(f"column {column!r}: {_with_row(error, owners, rows, column)}") from error
    return _joined(gather_object([shares]), captions, len(rows), model.device)


def _embed(
    encode: Callable[..., Vectors | tuple[Vectors, Mask]],
    items: _Items,
    owners: Indices,
    options: _Options,
    column: str,
) -> _Share:
    found = encode(items, **{**options, "convert_to": "numpy"})
    embeds, kept = found if isinstance(found, tuple) else (found, np.ones(len(owners), dtype=bool))
    again = partial(encode, **options)
    skipped: list[SkippedCell] = [
        {"index": int(owners[position]), "column": column, "reason": why(again, [items[position]])}
        for position in np.flatnonzero(~kept).tolist()
    ]
    return _Share(embeds, owners[kept], skipped)


def _joined(
    processes: Sequence[Mapping[str, _Share]], captions: list[list[str]], count: int, device: torch.device
) -> EmbeddedColumns:
    """The shares of all processes, in the order of the rows."""
    kept = np.ones(count, dtype=bool)
    for process in processes:
        for share in process.values():
            kept[[cell["index"] for cell in share.skipped]] = False
    if not kept.any():
        raise ValueError(f"none of {count} rows can be read")
    embeds: dict[str, Tensor] = {}
    owners: dict[str, Indices] = {}
    for modality in processes[0]:
        shares = [process[modality] for process in processes]
        owner = np.concatenate([share.owners for share in shares])
        order = owner.argsort(kind="stable")  # the captions of a row stay in their order
        order = order[kept[owner[order]]]
        embeds[modality] = torch.from_numpy(np.concatenate([share.embeds for share in shares])[order]).to(device)
        owners[modality] = owner[order]
    texts = [text for row in np.flatnonzero(kept) for text in captions[row]] if captions else []
    cells = [cell for process in processes for share in process.values() for cell in share.skipped]
    return EmbeddedColumns(embeds, owners, texts, kept, sorted(cells, key=lambda cell: cell["index"]))


def _captions(rows: Dataset, column: str) -> list[list[str]]:
    """The captions of each row, at least one. The encoder refuses what is not a text."""
    captions = list(rows[column])
    return [list(item) if isinstance(item, list) and item else [item] for item in captions]


def _with_row(error: Exception, owners: Indices, rows: Dataset, column: str) -> str:
    """The message, with the row in the data set in the place of the position in the share, and its file."""
    if not isinstance(error, InputError) or error.index is None or error.path is not None:
        return str(error)
    row = int(owners[error.index])
    path = path_of(undecoded(rows.select([row]))[0][column])
    place = f"row {row} ({printable(path)})" if path else f"row {row}"
    return f"{place}: {error.without_position()}"
