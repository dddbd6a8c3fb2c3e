"""Images or depth maps at URLs, such as those of a bucket."""

import posixpath
from collections.abc import Iterator, Sequence

import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Features, Image

from .file_rows import FileRows
from .layout import Part
from .remote_path import RemotePath, read_all

# So many files are asked for at the same time.
_FILES_PER_READ = 64


class RemotePictures(FileRows):
    """Pictures at URLs; the names of all travel to each worker.

    Args:
        name: the URL of a folder, a file or a pattern.
        urls: the files.
    """

    features = Features({"file": Image()})

    def __init__(self, name: str, urls: Sequence[str]):
        below = name.rstrip("/") + "/"
        self._folder = below if urls[0].startswith(below) else _common_folder(urls)
        files = [url.removeprefix(self._folder) for url in urls]
        states = RemotePath(name).find()
        found = (f"{states[url].st_size} {states[url].st_mtime_ns}" for url in urls)
        self._states = dict(zip(files, found, strict=True))
        super().__init__(name, files)

    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the contents of files and their URLs; one that is gone has no content."""
        files = self.files(part, skip)
        for start in range(0, len(files), _FILES_PER_READ):
            urls = [self._folder + name for name in files[start : start + _FILES_PER_READ]]
            contents = read_all(urls)
            cells = [{"bytes": contents[url], "path": url} for url in urls]
            schema = self.features.arrow_schema
            yield pa.Table.from_arrays([pa.array(cells, schema.field(0).type)], schema=schema)

    def file_state(self, file: str) -> str:
        """Its size and time, as they were when the collection was opened."""
        return self._states[file]


def _common_folder(urls: Sequence[str]) -> str:
    folders = [posixpath.dirname(url).split("/") for url in urls]
    common = posixpath.commonprefix(folders)  # of lists of names, as it takes any sequences
    return "/".join(common) + "/"
