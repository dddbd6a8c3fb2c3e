"""What a query is, one or many, and of which modality; and what is found."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import PIL.Image
from torch import Tensor

from ..arrays import AnyArray
from ..modalities import Encoder, check_queries, files_modality, modalities
from ..models.depth_units import DepthEncodeOptions, DepthUnits
from ..models.input_modality import is_file, picture_modality
from .filters import Where
from .shown_values import shown

QueryModality = Literal["text", "image", "depth", "embedding"]

# A text or the path of a file; a picture; a picture as a data set holds it undecoded, with `bytes` or `path`.
SingleQuery: TypeAlias = str | bytes | os.PathLike[str] | PIL.Image.Image | Mapping[str, Any]
QueryBatch: TypeAlias = (
    list[str] | list[bytes] | list[os.PathLike[str]] | list[PIL.Image.Image] | list[AnyArray] | list[Tensor]
)
# An array or tensor is one query or many by its dimensions, and a list of numbers is one embedding.
Query: TypeAlias = SingleQuery | QueryBatch | AnyArray | Tensor | Sequence[Any]

# An array with at most this many dimensions is one query.
_SINGLE_DIMENSIONS: Mapping[QueryModality, int] = {"embedding": 1, "text": 0, "depth": 2, "image": 3}


def whole_number(k: object) -> int:
    """A number of rows, of Python or NumPy.

    Raises:
        TypeError: for something else than a whole number.
        ValueError: for less than 1.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k is a whole number, got {k!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return int(k)


def is_single(query: Query, modality: QueryModality) -> bool:
    """Whether something is one query, and not a batch."""
    if isinstance(query, (np.ndarray, np.generic, Tensor)):
        return query.ndim <= _SINGLE_DIMENSIONS[modality]
    if modality == "embedding":
        first = _first(query)
        return first is not None and np.ndim(first) == 0
    return isinstance(query, (str, bytes, os.PathLike, PIL.Image.Image, Mapping))


@dataclass(frozen=True)
class SearchResult:
    """One hit.

    Args:
        index: the row's position in the data set that was indexed.
        score: cosine of query and row, in [-1, 1]; approximate with a `precision` below float32.
        row: the row itself; empty in an index without rows.
    """

    index: int
    score: float
    row: dict[str, Any]

    def __repr__(self) -> str:
        return f"SearchResult(index={self.index}, score={self.score:.3f}, row={shown(self.row)})"


class IndexOptions(DepthEncodeOptions, total=False):
    """`EncodeOptions` and, for depth maps, `DepthUnits`; with the size of a batch."""

    batch_size: int


class SearchOptions(DepthUnits, total=False):
    """`where`, the rows that may be found; and `DepthUnits` of queries that are depth maps."""

    where: Where | None


def guess_modality(query: Query, model: Encoder | None) -> QueryModality:
    """The modality of a query or a batch that does not say it.

    Args:
        query: strings are texts, or the paths of files, which are images or depth maps by their content; PIL images
            are what their mode says, and an empty list is a batch of texts.
        model: the only modality of the model is the answer, and "embedding" without a model.

    Raises:
        ValueError: if it may be several, or is words for a model that embeds none.
    """
    if model is None:
        return "embedding"
    known = modalities(model)
    first = _first(query) if isinstance(query, (list, tuple)) else query
    if len(known) == 1:
        if known != ("text",):  # a text may have the name of a file
            check_queries(model, [first])
        return known[0]
    if is_file(first):
        files = cast("Sequence[str]", query if isinstance(query, (list, tuple)) else [query])
        return files_modality(model, files, "modality=")
    if first is None or isinstance(first, str):
        return "text"
    if modality := picture_modality(first):
        return modality
    raise ValueError(
        f"a {type(first).__name__} may be several things: say modality='text', 'image', 'depth' or 'embedding'"
    )


def _first(query: Any) -> Any:
    """The first item of a batch; None of an empty one."""
    return query[0] if len(query) else None
