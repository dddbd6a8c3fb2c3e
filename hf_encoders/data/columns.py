"""The columns of a data set: which of them is embedded, and which hold pictures."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from datasets import Array2D, Array3D, ClassLabel, Features, Image, LargeList, List, Value
from numpy.typing import DTypeLike

from ..modalities import Modality
from ..models.input_modality import picture_modality
from ..places import has_suffix
from .location import NOUNS
from .names import SUFFIXES

# WebDataset names each sample and its shard in columns of its own.
KEY, URL = "__key__", "__url__"
_TEXTS = ("string", "large_string")
_KINDS = {"string": "text", "large_string": "text", "bool": "booleans", "null": "nothing"}
_PICTURES = tuple({*SUFFIXES["image"], *SUFFIXES["depth"]})
_LEAST_DIMENSIONS = 2
# As many cells are looked at.
LOOKED_AT = 16
# The first cells of a column, undecoded.
FirstCells: TypeAlias = Callable[[str], Sequence[object]]


class Columns:
    """The columns of a data set, and what each of them holds.

    Args:
        source: what messages begin with.
        features: the columns.
        first: the first cells of a column, undecoded. They are asked for only where the types do not tell: which texts
            name pictures, and which pictures are depth maps.
    """

    def __init__(self, source: str, features: Features, first: FirstCells | None = None):
        self.source, self.features = source, features
        self._first: FirstCells = first or _no_cells

    def choose(
        self,
        modality: Modality,
        given: str | None = None,
        *,
        option: str = "--column",
        usual: str | None = None,
        taken: Collection[str] = (),
        lists: bool = False,
    ) -> str:
        """Choose a column: the one given, the one with the usual name, or the only one of that kind.

        Args:
            modality: "text", "image" or "depth".
            given: the one that a person named, if any.
            option: the option by which a person would name it.
            usual: what such columns are called; by default the modality.
            taken: columns that are used for something else.
            lists: whether lists of texts are texts too.

        Raises:
            ValueError: if it is not there, or not clear; the message lists the columns and what they hold.
        """
        if given is not None:
            self.require(given, option)
            return given
        found = self.candidates(modality, usual=usual, taken=taken, lists=lists)
        if len(found) != 1:
            noun = NOUNS[modality]
            raise ValueError(f"{self.source}: which column holds the {noun}s? Say {option}; it has {self.listed()}")
        return found[0]

    def candidates(
        self, modality: Modality, *, usual: str | None = None, taken: Collection[str] = (), lists: bool = False
    ) -> list[str]:
        """The columns that may be meant, see `choose`; the one with the usual name alone, if it is there."""
        others = [name for name in self.features if name not in (KEY, URL, *taken)]
        fitting = [name for name in others if _fits(self.features[name], modality, lists)]
        usual = usual or modality
        is_likely = modality != "text" and usual in others and _may_be_picture(self.features[usual])
        if usual in fitting or is_likely:
            return [usual]
        if modality == "text":
            return self._without_names(fitting) if len(fitting) > 1 else fitting
        if not fitting:
            return self._less_likely(others, modality)
        return self._of_modality(fitting, modality) if len(fitting) > 1 else fitting

    def require(self, column: str, option: str = "") -> None:
        """Refuse a column that is not there.

        Raises:
            ValueError: listing the columns, and what they hold.
        """
        if column not in self.features:
            say = f"; say {option}" if option else ""
            raise ValueError(f"{self.source}: no column {column!r}; it has {self.listed()}{say}")

    def listed(self) -> str:
        """The columns and what they hold, for a message."""
        return ", ".join(f"{name} ({self._kind(name)})" for name in self.features if name not in (KEY, URL))

    def holds_words(self, column: str) -> bool:
        """Whether a column holds texts that name no pictures."""
        return _fits(self.features[column], "text", lists=False) and not self._names_pictures(column)

    def _kind(self, name: str) -> str:
        is_text = _fits(self.features[name], "text", lists=False)
        return "names of pictures" if is_text and self._names_pictures(name) else kind_of(self.features[name])

    def _less_likely(self, columns: Sequence[str], modality: Modality) -> list[str]:
        """Where no column holds encoded pictures: arrays of depth, names of files, or the only column."""
        arrays = [name for name in columns if modality == "depth" and number_type(self.features[name]) is not None]
        if arrays:
            return arrays
        texts = [name for name in columns if _fits(self.features[name], "text", lists=False)]
        if named := [name for name in texts if self._names_pictures(name, SUFFIXES[modality])]:
            return named
        return [name for name in columns if len(columns) == 1 and _may_be_picture(self.features[name])]

    def _without_names(self, columns: Sequence[str]) -> list[str]:
        return [name for name in columns if not self._names_pictures(name)]

    def _names_pictures(self, column: str, suffixes: Collection[str] = _PICTURES) -> bool:
        """Whether the first cells of a column of texts are names of pictures."""
        cells = [cell for cell in self._first(column) if cell]
        return bool(cells) and all(isinstance(cell, str) and has_suffix(cell, suffixes) for cell in cells)

    def _of_modality(self, columns: Sequence[str], modality: Modality) -> list[str]:
        """Of several columns of pictures those of the modality, as far as their first cells tell."""
        deep = [name for name in columns if _is_deep(self._first(name))]
        if modality == "depth":
            return deep or list(columns)
        return [name for name in columns if name not in deep] or list(columns)


def kind_of(feature: object) -> str:
    """What a column holds, in words; types of one kind are converted into each other without a loss."""
    if isinstance(feature, ClassLabel):
        return "classes with names"
    if is_picture(feature):
        return "pictures"
    if isinstance(feature, Value):
        is_number = feature.dtype.startswith(("int", "uint", "float"))
        return "numbers" if is_number else _KINDS.get(feature.dtype, feature.dtype)
    if isinstance(feature, Mapping):
        return f"records of {', '.join(feature)}"
    inner = getattr(feature, "feature", None)
    return type(feature).__name__ if inner is None else f"lists of {kind_of(inner)}"


def number_type(feature: object) -> DTypeLike | None:
    """The type of the numbers of a column that holds arrays of two dimensions or more; None for any other column."""
    if isinstance(feature, (Array2D, Array3D)):
        return np.dtype(feature.dtype)
    dimensions = 0
    while isinstance(feature, (List, LargeList)):
        feature, dimensions = feature.feature, dimensions + 1
    if dimensions < _LEAST_DIMENSIONS or not isinstance(feature, Value):
        return None
    return np.dtype(feature.dtype) if feature.dtype.startswith(("int", "uint", "float", "bool")) else None


def is_picture(feature: object) -> bool:
    """Whether a column holds encoded pictures, declared as such (`Image`) or not (as other writers of parquet do)."""
    if isinstance(feature, Value):
        return feature.dtype in ("binary", "large_binary")
    return isinstance(feature, Image) or (isinstance(feature, dict) and "bytes" in feature)


def _may_be_picture(feature: object) -> bool:
    """Whether a column that is called like pictures may hold them: also paths, and arrays of numbers."""
    if isinstance(feature, Value):
        return is_picture(feature) or feature.dtype in _TEXTS
    return is_picture(feature) or number_type(feature) is not None


def _fits(feature: object, modality: Modality, lists: bool) -> bool:
    if modality != "text":
        return is_picture(feature)
    if lists and isinstance(feature, (List, LargeList)):
        feature = feature.feature
    return isinstance(feature, Value) and feature.dtype in _TEXTS


def _is_deep(cells: Sequence[object]) -> bool:
    """Whether the first of the pictures is a depth map; of it only the header is read."""
    first = next((cell for cell in cells if cell), None)
    return picture_modality({"bytes": first} if isinstance(first, bytes) else first) == "depth"


def _no_cells(column: str) -> Sequence[object]:
    return ()
