"""Text files as they are: UTF-8 with or without a byte order mark, UTF-16 with one, any ends of lines."""

import codecs
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import datasets
from datasets import Dataset

from ..models.input_errors import InputError
from ..outputs import new_file

# What `datasets` calls files of rows that are text.
TextKind = Literal["json", "csv", "text"]
TEXT_FORMATS: Mapping[str, TextKind] = {".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_AT_ONCE = 1 << 20
_HINT = "save it as UTF-8"


class TextFileError(InputError):
    """A text file that cannot be decoded."""


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file: a byte order mark tells its encoding and is left out; lines end in a line feed.

    Raises:
        TextFileError: if it is neither UTF-8 nor UTF-16 with a byte order mark; the line is named.
        OSError: if it cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        text = content.decode(_encoding(content))
    except UnicodeDecodeError as error:
        raise _undecodable(path, error, content.count(b"\n", 0, error.start) + 1) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def has_mark(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins with a byte order mark."""
    with open(path, "rb") as file:
        return _encoding(file.read(len(codecs.BOM_UTF8))) != "utf-8"


def check_encoding(paths: Iterable[str | os.PathLike[str]], utf8_only: bool = False) -> None:
    """Read text files through, part by part.

    Args:
        paths: the files.
        utf8_only: whether UTF-16 is refused too.

    Raises:
        TextFileError: naming the first one that cannot be decoded.
    """
    for path in paths:
        with open(path, "rb") as file:
            encoding = _encoding(file.read(len(codecs.BOM_UTF8)))
            if utf8_only and encoding == "utf-16":
                raise TextFileError(path=path, reason="is UTF-16", hint=_HINT)
            decoder = codecs.getincrementaldecoder(encoding)()
            file.seek(0)
            lines = 1
            while part := file.read(_AT_ONCE):
                try:
                    decoder.decode(part)
                except UnicodeDecodeError as error:
                    before = max(error.start - (len(error.object) - len(part)), 0)
                    raise _undecodable(path, error, lines + part.count(b"\n", 0, before)) from None
                lines += part.count(b"\n")


def in_utf8(path: str) -> str:
    """The file, if `datasets` reads it as it is; else a copy in UTF-8, which lies in the cache of `datasets`.

    Raises:
        TextFileError: if it has to be copied and cannot be decoded.
    """
    with open(path, "rb") as file:
        encoding = _encoding(file.read(len(codecs.BOM_UTF8)))
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


def _encoding(content: bytes) -> str:
    return next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), "utf-8")


def _undecodable(path: object, error: UnicodeDecodeError, line: int) -> TextFileError:
    byte = error.object[error.start : error.start + 1].hex()
    return TextFileError(path=path, reason=f"line {line} is no {error.encoding.upper()} (byte 0x{byte})", hint=_HINT)
