"""Images or depth maps at URLs, such as those of a bucket."""

import posixpath
from collections.abc import Iterator, Sequence

import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Features, Image

from .file_states import digest
from .layout import Items, Layout, Part
from .parts import Collection
from .remote_path import RemotePath, read_all

# So many files are asked for at the same time.
_FILES_PER_READ = 64


class RemotePictures(Collection):
    """Pictures that are files of their own at URLs, named by their paths below what was given.

    All names are in memory; they travel to each worker.

    Args:
        name: the URL of a folder, a file or a pattern.
        urls: the files.
    """

    column = "file"
    features = Features({"file": Image()})
    id_type = "string"

    def __init__(self, name: str, urls: Sequence[str]):
        self.name = name
        below = name.rstrip("/") + "/"
        self._folder = below if urls[0].startswith(below) else _common_folder(urls)
        self._files = [url.removeprefix(self._folder) for url in urls]
        states = RemotePath(name).find()
        self._states = {
            file: f"{states[url].st_size} {states[url].st_mtime_ns}"
            for file, url in zip(self._files, urls, strict=True)
        }
        self._layout = Layout.of(self.items())
        self.identity = {"kind": "files", "digest": digest(self._files)}

    def items(self) -> Items:
        """The names of the files, of one row each."""
        return Items(self._files, [1] * len(self._files))

    def arrange(self, layout: Layout) -> None:
        """Read the files in another order."""
        self._layout, self._files = layout, layout.present

    def parts(self, shard_rows: int) -> list[Part]:
        """Divide the files into ranges."""
        return self._layout.parts(shard_rows)

    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the contents of files and their URLs; one that is gone has no content."""
        files = self._files[part.start + skip : part.start + (part.count or 0)]
        for start in range(0, len(files), _FILES_PER_READ):
            urls = [self._folder + name for name in files[start : start + _FILES_PER_READ]]
            contents = read_all(urls)
            cells = [{"bytes": contents[url], "path": url} for url in urls]
            schema = self.features.arrow_schema
            yield pa.Table.from_arrays([pa.array(cells, schema.field(0).type)], schema=schema)

    def state(self, part: Part, start: int, count: int) -> str:
        """Digest the sizes and times of the files, as they were when the collection was opened."""
        return digest(self.row_states(part, start, min(start + count, part.count or 0) - start))

    def row_states(self, part: Part, start: int, count: int) -> list[str]:
        """Sizes and times of the files, likewise."""
        return [self._states[name] for name in self._files[part.start + start : part.start + start + count]]

    def ids(self, part: Part, start: int, count: int) -> pa.Array:
        """Name files by their paths below the folder."""
        return pa.array(self._files[part.start + start : part.start + start + count], pa.string())


def _common_folder(urls: Sequence[str]) -> str:
    folders = [posixpath.dirname(url).split("/") for url in urls]
    common = posixpath.commonprefix(folders)  # of lists of names, as it takes any sequences
    return "/".join(common) + "/"
