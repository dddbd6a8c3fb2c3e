"""A Lance table of embeddings: one row per input, and in its schema what made it. On a disk or in an object store."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias, cast

import pyarrow as pa  # type: ignore[import-untyped]
from datasets import ClassLabel, Features, Value

from ..models.input_errors import one_line
from .folder import EMBEDDING, ID, BadRows, Plan

# A digest of what each row was embedded from; null in rows that `hf-encoders embed` did not write.
INPUT = "input_digest"
_ABOUT, _FORMAT = b"hf_encoders", 1
# Lance ends its messages so.
_SOURCE = re.compile(r",? ?\S*/rust/\S+\.rs:\d+:\d+")
# A `lance.LanceDataset`.
LanceTable: TypeAlias = Any


class TableManifest(Plan):
    """What made a table, and what became of the last run: `is_finished` is false from its first change to its end."""

    is_finished: bool
    rows: int
    bad_rows: BadRows
    versions: dict[str, str]


def need_lance(uri: str | os.PathLike[str]) -> Any:
    """Import Lance.

    Args:
        uri: what a message begins with.

    Raises:
        ValueError: where it is not installed; says what to install.
    """
    if find_spec("lance") is None:
        raise ValueError(f"{uri}: a Lance table needs pylance: pip install 'hf-encoders[lance]'")
    os.environ.setdefault("LANCE_LOG", "error")  # read at the import: its warnings are for its own developers
    return import_module("lance")


def open_table(uri: str | os.PathLike[str]) -> LanceTable:
    """Open a table; None where there is none. Object stores take their keys from the environment, as AWS's tools do.

    Raises:
        ValueError: where Lance is not installed, or the table cannot be opened.
    """
    lance = need_lance(uri)
    try:
        return lance.dataset(str(uri))
    except (OSError, ValueError) as error:
        if "was not found" in str(error):
            return None
        raise ValueError(f"{uri}: cannot be opened ({reason_of(error)})") from error


def read_table(uri: str | os.PathLike[str]) -> tuple[LanceTable, TableManifest]:
    """Open a table that a run of `hf-encoders embed` finished.

    Raises:
        ValueError: if there is none, it is not finished, or something else wrote it.
    """
    table = open_table(uri)
    if table is None:
        raise ValueError(f"{uri}: no such table; hf-encoders embed --output {uri} makes it")
    manifest = manifest_of(uri, table)
    if not manifest["is_finished"]:
        raise ValueError(f"{uri}: not finished; run the same hf-encoders embed again, which goes on")
    return table, manifest


def manifest_of(uri: str | os.PathLike[str], table: LanceTable) -> TableManifest:
    """What a table says of itself.

    Raises:
        ValueError: if `hf-encoders embed` did not write it, or another version did.
    """
    try:
        manifest = cast(TableManifest, json.loads((table.schema.metadata or {})[_ABOUT]))
        version = manifest["format"]
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{uri}: a Lance table that hf-encoders embed did not write") from error
    if version != _FORMAT or not {ID, INPUT, EMBEDDING} <= set(table.schema.names):
        raise ValueError(f"{uri}: a table of format {version}; this version of hf_encoders reads {_FORMAT}")
    return manifest


def new_manifest(plan: Plan, rows: int = 0, bad_rows: BadRows | None = None, **versions: str) -> TableManifest:
    """What a table says of itself: of a run that is finished where the versions of the libraries are given."""
    none: BadRows = {"count": 0, "first": []}
    return {
        **plan,
        "format": _FORMAT,
        "is_finished": bool(versions),
        "rows": rows,
        "bad_rows": bad_rows or none,
        "versions": versions,
    }


def table_schema(features: Features, manifest: Mapping[str, object]) -> pa.Schema:
    """The columns of a table for rows of some features, with `input_digest` before the embedding.

    Classes are stored by their names, so that `label = 'chair'` is a condition.
    """
    named = {name: Value("string") if isinstance(kind, ClassLabel) else kind for name, kind in features.items()}
    embedding = named.pop(EMBEDDING)
    stored = Features({**named, INPUT: Value("int64"), EMBEDDING: embedding})
    # Lance's own metadata has one text per key; `datasets` reads its types from its own key.
    schema: pa.Schema = stored.arrow_schema
    return schema.with_metadata({**(schema.metadata or {}), _ABOUT: json.dumps(manifest).encode()})


def stored_rows(rows: pa.Table, features: Features, digests: pa.Array, schema: pa.Schema) -> pa.Table:
    """Rows of some features as a table holds them."""
    columns: dict[str, Any] = {name: rows[name] for name in rows.column_names}
    for name, kind in features.items():
        if isinstance(kind, ClassLabel):
            names = pa.array(kind.names, pa.string())
            numbers = [None if number is None or number < 0 else number for number in rows[name].to_pylist()]
            columns[name] = names.take(pa.array(numbers, pa.int64()))
    columns[INPUT] = digests
    arrays = [columns[field.name] for field in schema]
    kept = [
        array if array.type == field.type else array.cast(field.type)
        for array, field in zip(arrays, schema, strict=True)
    ]
    return pa.Table.from_arrays(kept, schema=schema)


def check_columns(uri: str | os.PathLike[str], table: LanceTable, features: Features) -> None:
    """Refuse rows whose columns are of other types than those of the table.

    Raises:
        ValueError: for the first of them.
    """
    there, now = table.schema, table_schema(features, {})
    for field in now:
        # Lance has no views of texts, and stores what they show.
        kinds = str(there.field(field.name).type), str(field.type).replace("_view", "")
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"{uri}: its column {field.name!r} holds {kinds[0]}, that of the data {kinds[1]}; choose another"
                " --output"
            )


def write_manifest_of(table: LanceTable, manifest: TableManifest) -> None:
    """Write into the schema what a table says of itself."""
    table.update_schema_metadata({_ABOUT.decode(): json.dumps(manifest)})


def reason_of(error: Exception) -> str:
    """What Lance says of an error, on one line, without the line of its own source."""
    return _SOURCE.sub("", one_line(error))


@contextmanager
def explained(uri: str | os.PathLike[str]) -> Iterator[None]:
    """Say in one line what Lance could not do with a table.

    Raises:
        OSError: in place of what Lance raises.
    """
    try:
        yield
    except FileExistsError:
        raise
    except (OSError, pa.ArrowException, RuntimeError) as error:
        raise OSError(f"{uri}: {reason_of(error)}") from error
