"""Rows of several data sets as one: their columns are compared, and classes are joined by their names."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from datasets import ClassLabel, Dataset, Features, IterableDataset, concatenate_datasets

from ..models.input_errors import one_line
from .agreement import check_agree
from .cells import columns_of, undecoded

Rows: TypeAlias = Dataset | IterableDataset


def join(names: Sequence[str], parts: Sequence[Rows], columns: Sequence[str]) -> Rows:
    """Join rows, with the columns that are used; pictures stay undecoded, so that a broken one does not stop the rest.

    A class has one number in all data sets: that of its name. Names that the first has not come after its own.

    Args:
        names: what the data sets are called.
        parts: the rows of each, of one kind: all at hand, or all streams.
        columns: the columns to keep.

    Returns:
        The rows, of the same kind.

    Raises:
        ValueError: if one lacks a column, or its column holds something else; the message has the columns of both.
    """
    _check_columns(names, parts, columns)
    chosen = [undecoded(part.select_columns(list(columns))) for part in parts]
    for name, part in zip(names[1:], chosen[1:], strict=True):
        check_agree(names[0], chosen[0].features, name, part.features, columns, classes_by_name=True)
    if len(chosen) == 1:
        return chosen[0]
    for column in columns:
        chosen = _with_common_classes(chosen, column)
    try:
        return concatenate_datasets(chosen)
    except ValueError as error:
        raise ValueError(f"{', '.join(names)}: cannot be joined ({one_line(error)})") from error


def _check_columns(names: Sequence[str], parts: Sequence[Rows], columns: Sequence[str]) -> None:
    known = [columns_of(name, part) for name, part in zip(names, parts, strict=True)]
    for column in columns:
        holders = [one for one in known if column in one.features]
        lacking = [one for one in known if column not in one.features]
        if lacking and holders:
            raise ValueError(
                f"{lacking[0].source}: no column {column!r}, which {holders[0].source} has, so they cannot be read"
                f" together; {lacking[0].source} has {lacking[0].listed()}; {holders[0].source} has"
                f" {holders[0].listed()}"
            )
        known[0].require(column)


def _with_common_classes(parts: Sequence[Rows], column: str) -> list[Rows]:
    """The parts with the same numbers for the same names in a column of classes."""
    features = [part.features[column] for part in parts]
    known = [list(feature.names) for feature in features if isinstance(feature, ClassLabel)]
    if len(known) < len(parts) or all(names == known[0] for names in known):
        return list(parts)
    common = list(dict.fromkeys(name for names in known for name in names))
    return [_renumbered(part, column, names, common) for part, names in zip(parts, known, strict=True)]


def _renumbered(rows: Rows, column: str, names: Sequence[str], common: Sequence[str]) -> Rows:
    places = np.array([common.index(name) for name in names])
    feature = ClassLabel(names=list(common))

    def renumber(numbers: Sequence[int | None]) -> list[int | None]:
        # -1 is how datasets marks a row without a class.
        return [None if number is None else int(places[number]) if number >= 0 else number for number in numbers]

    if isinstance(rows, Dataset):  # a column apart: the pictures beside it are not copied
        order = rows.column_names
        renumbered = renumber(list(rows[column]))
        return rows.remove_columns([column]).add_column(column, renumbered, feature=feature).select_columns(order)

    def change(batch: Mapping[str, Any]) -> dict[str, Any]:
        return {column: renumber(batch[column])}

    return rows.map(change, batched=True, features=Features({**rows.features, column: feature}))
