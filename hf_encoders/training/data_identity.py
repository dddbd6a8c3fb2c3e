"""What tells the data of a run from others: names and sizes of files, wherever their folder lies."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..data.location import locate


def data_identity(names: Sequence[str], rows: int | None) -> str:
    """A digest of the data sets of a run. Contents are not read, and ids on the Hub count by name.

    Args:
        names: see `locate`.
        rows: how many rows the run trains on; None in a stream.
    """
    digest = hashlib.sha256()
    for name in names:
        for text in _files(name):
            digest.update(os.fsencode(text) + b"\0")
    return f"{digest.hexdigest()[:32]} {'stream' if rows is None else rows}"


def _files(name: str) -> Iterator[str]:
    location = locate(name)
    if location.kind == "hub":
        yield name
    elif location.is_folder:
        folder = Path(name)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        yield from (f"{path.relative_to(folder)} {path.stat().st_size}" for path in paths)
    elif location.is_remote:
        yield from location.files
    else:
        yield from (f"{Path(file).name} {Path(file).stat().st_size}" for file in location.files)
