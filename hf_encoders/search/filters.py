"""Which rows are meant: by a condition, a mask, or their positions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from datasets import ClassLabel, Dataset

from ..arrays import AnyArray, Mask
from ..data.cells import undecoded

# Column → the value that a row must have, or a list of values one of which it must have.
Condition: TypeAlias = Mapping[str, object]
# A text is a condition in SQL, of Lance tables alone.
Where: TypeAlias = Condition | Callable[[dict[str, Any]], bool] | Mask | Sequence[bool] | str


def rows_where(where: Where, rows: Dataset | None, count: int) -> Mask:
    """The rows that are meant.

    Args:
        where: a mapping, all of whose columns must have the value, or one of a list of values; a function of a row,
            whose pictures are not decoded; or [N] booleans.
        rows: the rows, if there are any.
        count: N, how many there are.

    Returns:
        [N].

    Raises:
        TypeError: for something else.
        ValueError: for a mask of another length, no rows, a column that is not there, or values that it cannot hold.
    """
    if isinstance(where, Mapping):
        mask = np.ones(count, bool)
        for column, value in where.items():
            mask &= _rows_with(_checked(rows), column, value)
        return mask
    if callable(where):
        return np.fromiter((bool(where(row)) for row in undecoded(_checked(rows))), bool, count)
    if isinstance(where, str):
        raise TypeError(f"a mapping, a function or booleans say which rows, got {where!r}: SQL is for Lance tables")
    mask = np.asarray(where)
    if mask.dtype != bool or mask.ndim != 1:
        raise TypeError(
            f"a mapping, a function or booleans say which rows, got {mask.dtype} of shape {list(mask.shape)}"
        )
    if len(mask) != count:
        raise ValueError(f"{len(mask)} booleans, and the index has {count} rows")
    return mask


def rows_meant(which: Sequence[int] | Where, rows: Dataset | None, positions: AnyArray) -> Mask:
    """The rows at some positions, or those of `rows_where`.

    Args:
        which: positions in the data set, as `SearchResult.index` has them, of which one may come twice; or what
            `rows_where` takes.
        rows: the rows, if there are any.
        positions: [N], those of the rows, in their order.

    Returns:
        [N].

    Raises:
        TypeError: for something else.
        ValueError: for a position at which no row is, or none any more; see `rows_where`, too.
    """
    if isinstance(which, Mapping) or callable(which):
        return rows_where(which, rows, len(positions))
    items = np.asarray(which)
    if items.dtype == bool:
        return rows_where(items, rows, len(positions))
    if items.size and (items.dtype.kind not in "iu" or items.ndim != 1):
        raise TypeError(f"positions are a list of whole numbers, got {items.dtype} of shape {list(items.shape)}")
    missing = np.setdiff1d(items, positions)
    if len(missing):
        raise ValueError(f"no row has the index {missing[0]}: it was never there, was left out, or was removed before")
    mask: Mask = np.isin(positions, items)
    return mask


def _checked(rows: Dataset | None) -> Dataset:
    if rows is None:
        raise ValueError("this index has no rows to look at: say which by a mask or by positions")
    return rows


def _rows_with(rows: Dataset, column: str, value: object) -> Mask:
    if column not in rows.column_names:
        raise ValueError(f"no column {column!r}; the rows have {', '.join(rows.column_names)}")
    feature = rows.features[column]
    # Other columns may hold pictures, which an empty index has no reason to open.
    cells = rows.select_columns(column).with_format("arrow")[:][column]
    found = pc.is_in(cells, value_set=typed_values(column, feature, cells.type, value))
    mask: Mask = found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy()
    return mask.astype(bool)


def typed_values(column: str, feature: object, kind: pa.DataType, value: object) -> pa.Array:
    """The value, or the values, that a condition asks of a column.

    Args:
        column: its name.
        feature: what it is to `datasets`; classes may be given by their names.
        kind: what it is to Arrow.
        value: one, or a list of them; None is one too. Texts are read as what they say, such as "3" as a number.

    Raises:
        ValueError: for a value that the column cannot hold, or a column of lists or records.
    """
    if pa.types.is_nested(kind):
        raise ValueError(f"column {column!r} holds {kind}, which no value equals; give a function of the row")
    values = list(value) if isinstance(value, (list, tuple, set, frozenset, np.ndarray)) else [value]
    if isinstance(feature, ClassLabel):
        values = [_class_number(feature, column, one) for one in values]
    return _as_type(values, kind, column)


def _class_number(feature: ClassLabel, column: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in feature.names:
        raise ValueError(f"column {column!r} has no class {value!r}; it has {', '.join(feature.names)}")
    return feature.str2int(value)


def _as_type(values: Sequence[object], kind: pa.DataType, column: str) -> pa.Array:
    """Values as a column of this type holds them; texts are read as what they say, such as "3" as a number."""
    try:
        if not pa.types.is_large_string(kind) and not pa.types.is_string(kind):
            texts = [value for value in values if isinstance(value, str)]
            if texts:
                others = [value for value in values if not isinstance(value, str)]
                return pa.concat_arrays([pa.array(texts).cast(kind), pa.array(others, kind)])
        plain = [value.item() if isinstance(value, np.generic) else value for value in values]
        if pa.types.is_integer(kind) and any(isinstance(value, float) and not value.is_integer() for value in plain):
            raise TypeError("Arrow would cut it off")
        return pa.array(plain, kind)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        shown = ", ".join(map(repr, values))
        raise ValueError(f"column {column!r} holds {kind}, not {shown}") from error
