"""The states of files, by which a later run sees that one has changed: size, and time in nanoseconds."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import xxhash

_FOOTER_END = 8  # the length of the footer and the letters PAR1, see the Parquet format


def file_state(path: str | os.PathLike[str]) -> str:
    """Size and time of a file; "absent" where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # the latter for a name that no file can have
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


def parquet_state(path: Path) -> str:
    """As `file_state`, with a digest of the footer, which lists the sizes and places of all columns."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _FOOTER_END))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - _FOOTER_END - length))
        footer = xxhash.xxh3_128_hexdigest(file.read())
    return f"{file_state(path)} {footer}"


def named_files(values: Iterable[object]) -> Iterator[str]:
    """The paths that cells name: strings, and pictures that are stored by their path alone."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping) and not value.get("bytes") and isinstance(path := value.get("path"), str):
            yield path


def digest(texts: Iterable[str]) -> str:
    """Digest strings, in order: 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest("\0".join(texts).encode(errors="surrogateescape"))
