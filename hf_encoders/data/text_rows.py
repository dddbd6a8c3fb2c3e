"""Rows of text files, as `datasets` reads them: in UTF-8, with the pictures that they name."""

import codecs
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import datasets
from datasets import Dataset

from ..outputs import new_file
from .names import TEXT_FORMATS
from .text_files import encoding_of, read_text


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


def with_paths(rows: Dataset, folder: Path, suffixes: Iterable[str]) -> Dataset:
    """Find the pictures that rows of a text file name beside that file.

    Args:
        rows: the rows.
        folder: of the file.
        suffixes: of pictures.

    Returns:
        The rows with paths that lead there from the current folder.
    """
    endings = tuple(suffixes)

    def found(value: object) -> object:
        if not isinstance(value, str) or not value.lower().endswith(endings) or os.path.exists(value):
            return value
        beside = folder / value
        return str(beside) if beside.is_file() else value

    first: Mapping[str, object] = rows[0] if len(rows) else {}
    columns = [name for name, value in first.items() if found(value) != value]
    if not columns:
        return rows
    return rows.map(lambda row: {name: found(row[name]) for name in columns})
