"""Text files as they are: UTF-8 with or without a byte order mark, UTF-16 with one, any ends of lines."""

import codecs
import os
from collections.abc import Iterable

from ..models.input_errors import InputError

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
    with open(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode(encoding_of(content))
    except UnicodeDecodeError as error:
        raise _undecodable(path, error, content.count(b"\n", 0, error.start) + 1) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def has_mark(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins with a byte order mark."""
    with open(path, "rb") as file:
        return encoding_of(file.read(len(codecs.BOM_UTF8))) != "utf-8"


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
            encoding = encoding_of(file.read(len(codecs.BOM_UTF8)))
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


def encoding_of(content: bytes) -> str:
    """The encoding of a file by its first three bytes or more: UTF-8 without a mark."""
    return next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), "utf-8")


def _undecodable(path: object, error: UnicodeDecodeError, line: int) -> TextFileError:
    byte = error.object[error.start : error.start + 1].hex()
    return TextFileError(path=path, reason=f"line {line} is no {error.encoding.upper()} (byte 0x{byte})", hint=_HINT)
