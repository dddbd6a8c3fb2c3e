"""What every collection can do, wherever its rows come from: be divided, read, and named row by row."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Features

from .layout import Items, Layout, Part

# What distinguishes a collection from other data, as plain JSON.
Identity: TypeAlias = dict[str, str | int]


class Collection(ABC):
    """Rows to embed. Where they come from decides how they are divided.

    Args:
        name: the name by which it was opened.
        features: the columns.
        column: the column that is embedded.
        left_out: what of a folder is left out, on one line.
        default_id: the column that names the rows, if there is one.
        id_type: the type of the names that `ids` gives to rows otherwise.
        identity: what distinguishes it from other data, as plain JSON.
        is_local: whether all of it is on this machine.
    """

    name: str
    features: Features
    column: str
    left_out: str = ""
    default_id: str | None = None
    id_type: str = "int64"
    identity: Identity
    is_local: bool = True

    @abstractmethod
    def parts(self, shard_rows: int) -> list[Part]:
        """Divide the rows into one part or more, of at most `shard_rows` rows where reading can begin at any row."""

    @abstractmethod
    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows of a part, undecoded, without its first `skip`."""

    def items(self) -> Items | None:
        """What it consists of, where that may grow: files and their rows. None where that is not known."""
        return None

    def arrange(self, layout: Layout) -> None:
        """Read what it consists of in another order from now on, and divide it so.

        Args:
            layout: has the names of all of `items`.
        """
        raise NotImplementedError

    @abstractmethod
    def state(self, part: Part, start: int, count: int) -> str:
        """A digest of the files that rows are read from as they are now; it changes when one of them does.

        Args:
            part: the rows' part.
            start: the first of them in it.
            count: at most so many.
        """

    @abstractmethod
    def row_states(self, part: Part, start: int, count: int) -> list[str]:
        """What each row is read from as it is now, and from where in it: as long as that is the same, so is the row.

        Args:
            part: the rows' part.
            start: the first of them in it.
            count: how many.

        Returns:
            [count].
        """

    def ids(self, part: Part, start: int, count: int) -> pa.Array:
        """Name rows that have no name: by their numbers in the collection, int64."""
        return pa.array(range(part.start + start, part.start + start + count), pa.int64())
