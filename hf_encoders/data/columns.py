"""The columns of a data set: which of them is embedded, and which hold pictures."""

from collections.abc import Sequence

import numpy as np
from datasets import Array2D, Array3D, Features, Image, LargeList, List, Value
from numpy.typing import DTypeLike

from ..modalities import Modality
from .location import NOUNS

# WebDataset names each sample and its shard in columns of its own.
KEY, URL = "__key__", "__url__"
_TEXTS = ("string", "large_string")
_LEAST_DIMENSIONS = 2


def choose_column(
    source: str, features: Features, modality: Modality, column: str | None = None, option: str = "--column"
) -> str:
    """Choose the column that is embedded: the one given, the one named like the modality, or the only one of that kind.

    Args:
        source: what messages begin with.
        features: the columns.
        modality: "text", "image" or "depth".
        column: the one given, if any.
        option: the option by which a person would give it.

    Raises:
        ValueError: if it is not there, or not clear.
    """
    columns = ", ".join(features)
    if column is not None:
        if column not in features:
            raise ValueError(f"{source}: no column {column!r}; it has {columns}")
        return column
    others = [name for name in features if name not in (KEY, URL)]
    fitting = [name for name in others if _fits(features[name], modality)]
    if modality in fitting or (modality != "text" and _may_be_picture(features.get(modality))):
        return modality
    if not fitting and modality != "text":
        fitting = _less_likely(features, others, modality)
    if len(fitting) != 1:
        raise ValueError(f"{source}: which column holds the {NOUNS[modality]}s? Say {option}; it has {columns}")
    return fitting[0]


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


def _less_likely(features: Features, columns: Sequence[str], modality: Modality) -> list[str]:
    """Where no column holds encoded pictures: depth maps as arrays, or the only column, if it may hold paths."""
    arrays = [name for name in columns if modality == "depth" and number_type(features[name]) is not None]
    return arrays or [name for name in columns if len(columns) == 1 and _may_be_picture(features[name])]


def _fits(feature: object, modality: Modality) -> bool:
    if modality == "text":
        return isinstance(feature, Value) and feature.dtype in _TEXTS
    return is_picture(feature)
