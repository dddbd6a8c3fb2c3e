"""What the cells of a column of pictures hold, as the models' readers take it: the same for every command.

| column of `datasets` | cell | what is read |
|---|---|---|
| `Image`, or a record of `bytes` and `path` | both | the content of a file, or else the file |
| `Value("binary")` | bytes | the content of a file |
| `Value("string")` | text | the file of that path |
| `Array2D`, `Array3D`, lists of lists of numbers | lists | the numbers, in the column's own type |
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar, overload

import numpy as np
from datasets import Column, Dataset, Features, Image, IterableDataset
from numpy.typing import DTypeLike

from ..models.input_errors import InputError
from .columns import LOOKED_AT, Columns, FirstCells, is_picture, number_type

# Column → the type of its numbers, for columns of arrays.
NumberTypes: TypeAlias = Mapping[str, DTypeLike]
# The rows of a stream that tell its columns.
_ROWS_THAT_TELL = 256
_Rows = TypeVar("_Rows", Dataset, IterableDataset)


def number_types(features: Mapping[str, object]) -> NumberTypes:
    """The columns that hold arrays of two dimensions or more, and the type of their numbers."""
    types = {name: number_type(feature) for name, feature in features.items()}
    return {name: kind for name, kind in types.items() if kind is not None}


def as_picture(cell: object, kind: DTypeLike | None = None) -> object:
    """A cell as `read_image` and `read_depth` take it.

    Args:
        cell: what `datasets` gives, undecoded.
        kind: the type of its numbers, see `number_types`; None for a column of something else.

    Raises:
        InputError: for lists of different lengths, or something else than numbers in them.
    """
    if isinstance(cell, bytes):
        return {"bytes": cell, "path": None}
    if kind is None or not isinstance(cell, (list, np.ndarray)):
        return cell
    try:
        return np.asarray(cell, kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(reason="lists of different lengths, or with a gap, expected an array of numbers") from error


def path_of(cell: object) -> str:
    """The file that a cell names; empty if it names none."""
    path = cell.get("path") if isinstance(cell, Mapping) else cell
    return path if isinstance(path, str) else ""


def undecoded(rows: _Rows) -> _Rows:
    """The rows with their pictures as bytes and path, so that a broken one stops nothing else."""
    for name, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
    return rows


def first_cells(rows: Dataset | IterableDataset) -> FirstCells:
    """What `Columns` looks at where the types of columns do not tell what they hold."""

    def read(column: str) -> Sequence[object]:
        first = undecoded(rows.select_columns([column]).with_format(None)).take(LOOKED_AT)
        return [row[column] for row in first]

    return read


def features_of(name: str, rows: Dataset | IterableDataset) -> Features:
    """The columns of rows; those of its first rows, where a stream does not declare its columns.

    Raises:
        ValueError: if it declares none and has no rows.
    """
    if rows.features is not None:
        return rows.features
    first = next(iter(rows.with_format("arrow").iter(_ROWS_THAT_TELL)), None)
    if first is None:
        raise ValueError(f"{name}: no rows, and no columns to know them by")
    return Features.from_arrow_schema(first.schema)


def columns_of(name: str, rows: Dataset | IterableDataset) -> Columns:
    """The columns of rows, to choose from."""
    return Columns(name, features_of(name, rows), first_cells(rows))


def picture_items(dataset: Dataset, column: str) -> "Column | PictureItems":
    """A column of pictures as raw inputs of a model, each read when it is embedded.

    Args:
        dataset: with a format of its own, such as "torch", the column is as the format makes it.
        column: see the table above.
    """
    if dataset.format["type"] is not None:
        return dataset[column]
    kind = number_type(dataset.features[column])
    if is_picture(dataset.features[column]):
        dataset = dataset.cast_column(column, Image(decode=False))
    items = dataset[column]
    return items if kind is None else PictureItems(items, kind)


class PictureItems(Sequence[object]):
    """A column of arrays, whose cells `datasets` gives as lists."""

    def __init__(self, items: Column, kind: DTypeLike):
        self._items, self._kind = items, kind

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> object: ...
    @overload
    def __getitem__(self, index: slice) -> list[object]: ...
    def __getitem__(self, index: int | slice) -> object:
        if isinstance(index, slice):
            return [as_picture(cell, self._kind) for cell in self._items[index]]
        return as_picture(self._items[index], self._kind)

    def __iter__(self) -> Iterator[object]:
        return (as_picture(cell, self._kind) for cell in self._items)
