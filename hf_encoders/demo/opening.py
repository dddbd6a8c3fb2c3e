"""What the page shows: a collection, embedded by a model once for each modality that it holds."""

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from threading import Lock

import numpy as np
from datasets import ClassLabel, Dataset, Value

from ..arrays import Vectors
from ..data.cells import picture_items
from ..data.source import Source, open_all_pictures
from ..depth_colours import DepthColours
from ..modalities import Modality
from ..models.depth_units import DepthUnits
from ..models.input_errors import InputError
from ..models.tower import Encoder
from ..search.embedding import embed_dataset
from ..search.index import EmbeddingIndex
from .pictures import SmallPicture, small_picture
from .projection import project

# A column of more different texts has none to choose from.
_MOST_LABELS = 60
_USUAL_LABEL = "label"
_TEXTS = ("string", "large_string")
_PICTURES = 1000  # small pictures that are kept: some 10 KB each


@dataclass(frozen=True)
class Part:
    """The rows of a collection in one modality.

    Args:
        source: the rows, and which column is embedded.
        index: their embeddings; its rows are those that could be read.
        embeddings: [N, D], of the rows of the index.
        labels: the label of each row of the index; empty texts where there are none.
        colours: how its depth maps are drawn.
    """

    source: Source
    index: EmbeddingIndex
    embeddings: Vectors
    labels: Sequence[str]
    colours: DepthColours
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def modality(self) -> Modality:
        """What was embedded."""
        return self.source.modality

    @property
    def rows(self) -> Dataset:
        """The rows of the index."""
        assert self.index.rows is not None  # it was made of some
        return self.index.rows

    @cached_property
    def _items(self) -> Sequence[object]:
        dataset = self.rows
        return dataset[self.source.column] if self.modality == "text" else picture_items(dataset, self.source.column)

    @cached_property
    def _words(self) -> Dataset:
        """The rows without their pictures."""
        pictures = set(self.rows.column_names) - set(self.source.rows.column_names)
        return self.rows.remove_columns(sorted(pictures))

    def number(self, position: int) -> int:
        """The row of the index at a position of the data set, of which some rows may be left out."""
        return position - bisect(self.index.skipped, position)

    def position(self, number: int) -> int:
        """The position in the data set of a row of the index."""
        position = number
        while (there := number + bisect(self.index.skipped, position)) != position:
            position = there
        return position

    def small_picture(self, number: int) -> SmallPicture:
        """The picture of a row of the index."""
        return self._small_picture(number)

    @cached_property
    def _small_picture(self) -> Callable[[int], SmallPicture]:
        return lru_cache(_PICTURES)(lambda number: small_picture(self._items[number], self.modality, self.colours))

    def caption(self, number: int) -> str:
        """What a person knows a row by."""
        return self.source.caption(self.position(number), self._words[number])

    @cached_property
    def _placed(self) -> tuple[list[int], Vectors]:
        return project(self.embeddings)

    def places(self) -> tuple[list[int], Vectors]:
        """Rows of the index and their places on a map, [M, 2] from 0 to 1; see `project`. Computed once."""
        with self._lock:
            return self._placed


@dataclass(frozen=True)
class Shown:
    """What the page shows.

    Args:
        model: the encoder.
        model_name: its folder or Hub id.
        name: of the collection.
        parts: the modality → its rows.
        label_column: the column of labels; None where there is none.
        colours: how depth maps are drawn.
        units: what the raw values of depth maps mean.
        skipped: how many rows could not be read.
    """

    model: Encoder
    model_name: str
    name: str
    parts: Mapping[Modality, Part]
    colours: DepthColours
    label_column: str | None = None
    units: DepthUnits = field(default_factory=DepthUnits)
    skipped: int = 0

    @cached_property
    def labels(self) -> list[str]:
        """The different labels, sorted."""
        return sorted({label for part in self.parts.values() for label in part.labels if label})


def open_shown(
    model: Encoder,
    model_name: str,
    name: str,
    *,
    column: str | None = None,
    split: str | None = None,
    label_column: str | None = None,
    units: DepthUnits | None = None,
) -> Shown:
    """Open and embed a collection. Rows that cannot be read are left out.

    Args:
        model: the encoder.
        model_name: what the page calls it.
        name: see `data.location.locate`.
        column: the only one that is embedded; by default images and depth maps.
        split: see `open_source`.
        label_column: by default "label", or the first column of few different texts.
        units: what the raw values of depth maps mean, here and in uploads.

    Raises:
        ValueError: if there is nothing to embed in it, none of its rows can be read, or the label column is not there
            or holds no labels.
    """
    sources = open_all_pictures(model, name, column, split)
    labels = _label_column(sources[0], label_column)
    colours = DepthColours.of(model, units)
    parts = {source.modality: _embed(model, source, labels, units or {}, colours) for source in sources}
    skipped = sum(len(part.index.skipped) for part in parts.values())
    return Shown(model, model_name, name, parts, colours, labels, units or {}, skipped)


def _embed(model: Encoder, source: Source, label_column: str | None, units: DepthUnits, colours: DepthColours) -> Part:
    depth = units if source.modality == "depth" else DepthUnits()
    with source.named():
        made = embed_dataset(model, source.dataset, source.column, source.modality, {"on_error": "skip", **depth})
    if not len(made.embeddings):
        raise InputError(path=source.name, reason=f"none of its {len(source.dataset)} rows can be read")
    index = EmbeddingIndex(made.embeddings, made.rows, model)
    index.modality, index.column, index.skipped = made.modality, source.column, made.skipped
    return Part(source, index, np.asarray(made.embeddings), _labels(made.rows, label_column), colours)


def _labels(rows: Dataset, column: str | None) -> list[str]:
    if column is None:
        return [""] * len(rows)
    feature, cells = rows.features[column], rows.select_columns(column).with_format(None)[:][column]
    if isinstance(feature, ClassLabel):
        return ["" if cell is None or cell < 0 else feature.int2str(cell) for cell in cells]
    return ["" if cell is None else str(cell) for cell in cells]


def _label_column(source: Source, given: str | None) -> str | None:
    """The column of labels: the one given, the usual one, or the first that has few different values."""
    columns = [name for name in source.rows.column_names if name not in (source.column, "file")]
    if given is not None:
        if given not in columns:
            raise InputError(path=source.name, reason=f"no column {given!r} of labels", hint=_listed(columns))
        if not _is_label(source.dataset, given, most=len(source.dataset)):
            raise InputError(path=source.name, reason=f"column {given!r} holds no labels, but {_kind(source, given)}")
        return given
    usual_first = sorted(columns, key=lambda name: name != _USUAL_LABEL)
    return next((name for name in usual_first if _is_label(source.dataset, name, most=_MOST_LABELS)), None)


def _is_label(dataset: Dataset, column: str, most: int) -> bool:
    feature = dataset.features[column]
    if isinstance(feature, ClassLabel):
        return True
    if not isinstance(feature, Value) or feature.dtype not in _TEXTS:
        return False
    return 1 < len(dataset.unique(column)) <= min(most, max(2, len(dataset) // 2))


def _kind(source: Source, column: str) -> str:
    return str(getattr(source.dataset.features[column], "dtype", "something else"))


def _listed(columns: Sequence[str]) -> str:
    return f"it has {', '.join(columns)}" if columns else "it has no other columns"
