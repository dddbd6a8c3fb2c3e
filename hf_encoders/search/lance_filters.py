"""Conditions as Lance reads them, in SQL: a mapping means what it means in memory."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

import pyarrow as pa  # type: ignore[import-untyped]

from .filters import Where, typed_values


def sql_where(where: Where | None, schema: pa.Schema, columns: Sequence[str]) -> str | None:
    """A condition in SQL.

    Args:
        where: SQL, or a mapping as `rows_where` takes it. Functions and masks would need all rows in memory.
        schema: the columns of a table.
        columns: those that conditions are about.

    Raises:
        TypeError: for a function, a mask or something else.
        ValueError: for a column that is not there, or a value that it cannot hold.
    """
    if where is None or (isinstance(where, str) and where.strip()):
        return where
    if not isinstance(where, Mapping):
        kind = "no text" if isinstance(where, str) else "a function" if callable(where) else f"a {type(where).__name__}"
        raise TypeError(
            f"where= of a Lance table is SQL, such as \"label = 'chair'\", or a mapping, such as {{'label': 'chair'}};"
            f" got {kind}"
        )
    conditions = []
    for column, value in where.items():
        if column not in columns:
            raise ValueError(f"no column {column!r}; the rows have {', '.join(columns)}")
        kind = schema.field(column).type
        conditions.append(_is_among(column, typed_values(column, None, kind, value)))
    return " AND ".join(conditions) or None


def _is_among(column: str, values: pa.Array) -> str:
    name = f"`{column.replace('`', '``')}`"
    given = [value for value in values.to_pylist() if value is not None]
    among = [f"{name} IN ({', '.join(_literal(column, value) for value in given)})"] if given else []
    unknown = [f"{name} IS NULL"] if values.null_count else []
    return f"({' OR '.join([*among, *unknown]) or 'false'})"


def _literal(column: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        return f"timestamp '{value}'"
    if isinstance(value, date) and not isinstance(value, datetime):
        return f"date '{value}'"
    raise ValueError(f"column {column!r} holds values of {type(value).__name__}: say the condition in SQL")
