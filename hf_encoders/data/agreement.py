"""Whether the columns of several files mean the same: class numbers by their names, kinds of values, pictures."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from datasets import ClassLabel, Features

from .columns import kind_of
from .parquet import read_footers

_NAMES_SHOWN = 5


def check_files_agree(files: Sequence[str], columns: Collection[str] | None = None) -> None:
    """Refuse local parquet files whose columns mean different things.

    Args:
        files: their paths.
        columns: those that are read; by default all, and each file needs every one.

    Raises:
        ValueError: naming both files and the column; also for a file that is not readable parquet.
    """
    first_schema: pa.Schema | None = None
    for file, footer in zip(files, read_footers(files), strict=True):
        schema = footer.schema.to_arrow_schema()
        if first_schema is None:
            first_schema, first = schema, Features.from_arrow_schema(schema)
        elif not schema.equals(first_schema, check_metadata=True):
            check_agree(files[0], first, file, Features.from_arrow_schema(schema), columns)


def check_agree(
    first_name: str,
    first: Mapping[str, Any],
    name: str,
    features: Mapping[str, Any],
    columns: Collection[str] | None = None,
    *,
    classes_by_name: bool = False,
) -> None:
    """Refuse columns that do not mean the same in two files or data sets.

    Args:
        first_name: where the first columns are from.
        first: column → feature of `datasets`.
        name: where the other columns are from.
        features: these.
        columns: those that are read; by default all of both.
        classes_by_name: whether a class may have another number in each, as its name tells which one it is.

    Raises:
        ValueError: naming both, and the column.
    """
    for column in [*first, *(other for other in features if other not in first)] if columns is None else columns:
        for one, there, other in ((name, features, first_name), (first_name, first, name)):
            if column not in there:
                raise ValueError(f"{one}: no column {column!r}, which {other} has")
        kinds = first[column], features[column]
        if classes_by_name and all(isinstance(kind, ClassLabel) for kind in kinds):
            continue
        if reason := _difference(first_name, *kinds):
            raise ValueError(f"{name}: its column {column!r} {reason}")


def _difference(first_name: str, first: object, feature: object) -> str:
    """How a feature differs from the first one, in words; nothing if both mean the same."""
    if isinstance(first, ClassLabel) and isinstance(feature, ClassLabel):
        if first.names == feature.names:
            return ""
        return (
            f"numbers its classes {_shown(feature.names)}, that of {first_name} {_shown(first.names)}: write one of"
            " them again with the other's order (Dataset.align_labels_with_mapping)"
        )
    kinds = kind_of(first), kind_of(feature)
    if kinds[0] == kinds[1] or "nothing" in kinds:
        return ""
    return f"holds {kinds[1]}, that of {first_name} {kinds[0]}"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
