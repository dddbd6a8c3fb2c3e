"""Rows of text files, as `datasets` reads them: in UTF-8, with the pictures that they name."""

import codecs
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Dataset, Value

from ..outputs import new_file
from .names import TEXT_FORMATS, is_picture
from .text_files import encoding_of, read_text

# Rows that tell which columns name pictures.
_LOOKED_AT = 64
_TEXTS = (Value("string"), Value("large_string"))


def in_utf8(path: str) -> str:
    """The file, if `datasets` reads it as it is; else a copy in UTF-8, which lies in the cache of `datasets`.

    Raises:
        TextFileError: if it has to be copied and cannot be decoded.
    """
    with open(path, "rb") as file:
        encoding = encoding_of(file.read(len(codecs.BOM_UTF8)))
    # Of UTF-8's own mark, only the reader of .txt makes a part of the first line.
    if encoding == "utf-8" or (encoding == "utf-8-sig" and TEXT_FORMATS[Path(path).suffix.lower()] != "text"):
        return path
    text = read_text(path)
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    copy = Path(datasets.config.HF_DATASETS_CACHE) / "in_utf8" / digest / Path(path).name
    if not copy.is_file():
        with new_file(copy, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
    return str(copy)


def beside(folder: str, value: object) -> object:
    """The path of a picture that a text file names, as it leads there from the current folder.

    Args:
        folder: of the text file.
        value: what a row holds; anything else than the name of a picture beside the file stays as it is.
    """
    if not isinstance(value, str) or not is_picture(value) or os.path.exists(value):
        return value
    path = os.path.join(folder, value)
    return path if os.path.isfile(path) else value


def with_paths(rows: Dataset, folder: str) -> Dataset:
    """Find the pictures that rows of a text file name beside that file, see `beside`."""
    texts = [name for name, feature in rows.features.items() if feature in _TEXTS]
    columns = [name for name in texts if any(beside(folder, value) != value for value in rows[:_LOOKED_AT][name])]
    if not columns:
        return rows
    # Not from the cache: a picture may have come since.
    options = {"folder": folder, "columns": columns}
    return rows.map(_row_beside, fn_kwargs=options, load_from_cache_file=False)


def table_with_paths(table: pa.Table, column: str, folder: str) -> pa.Table:
    """As `with_paths`, for one column of a table."""
    paths = pa.array([beside(folder, value) for value in table[column].to_pylist()], table.schema.field(column).type)
    return table.set_column(table.schema.get_field_index(column), column, paths)


def _row_beside(row: Mapping[str, object], folder: str, columns: Sequence[str]) -> dict[str, object]:
    return {name: beside(folder, row[name]) for name in columns}
