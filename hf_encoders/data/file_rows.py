"""Collections of which each row is a file of its own, named by its path below a folder."""

from abc import abstractmethod
from collections.abc import Sequence

import pyarrow as pa  # type: ignore[import-untyped]

from .file_states import digest
from .layout import Items, Layout, Part
from .parts import Collection


class FileRows(Collection):
    """Images or depth maps that are files of their own. All names are in memory, about 0.1 kB per file.

    Args:
        name: by which it was opened.
        files: the paths below the folder.
    """

    column = "file"
    id_type = "string"

    def __init__(self, name: str, files: Sequence[str]):
        self.name, self._files = name, files
        self.identity = {"kind": "files", "digest": digest(files)}
        self._layout = Layout.of(self.items())

    @abstractmethod
    def file_state(self, file: str) -> str:
        """The size and time of a file."""

    def items(self) -> Items:
        """The names of the files, of one row each."""
        return Items(self._files, [1] * len(self._files))

    def arrange(self, layout: Layout) -> None:
        """Read the files in another order."""
        self._layout, self._files = layout, layout.present

    def parts(self, shard_rows: int) -> list[Part]:
        """Divide the files into ranges."""
        return self._layout.parts(shard_rows)

    def state(self, part: Part, start: int, count: int) -> str:
        """Digest the sizes and times of the files."""
        return digest(self.row_states(part, start, min(start + count, part.count or 0) - start))

    def row_states(self, part: Part, start: int, count: int) -> list[str]:
        """The sizes and times of the files."""
        return [self.file_state(file) for file in self.files(part, start, count)]

    def ids(self, part: Part, start: int, count: int) -> pa.Array:
        """Name files by their paths below the folder."""
        return pa.array(self.files(part, start, count), pa.string())

    def files(self, part: Part, start: int, count: int | None = None) -> Sequence[str]:
        """The files of a part, from one on: so many, or all that are left."""
        end = part.start + (part.count or 0) if count is None else part.start + start + count
        return self._files[part.start + start : end]
