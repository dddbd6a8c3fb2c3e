"""Finds the pictures that a folder of embeddings was made from, by the ids of its rows: it keeps none itself."""

import os
from collections.abc import Mapping, Sequence

from datasets import Dataset, Image

from ..data.collection import FolderFiles, ParquetFiles, open_collection
from ..data.columns import is_picture
from ..data.layout import Part
from ..models.input_errors import one_line
from .folder import Plan


class EmbeddedPictures:
    """Pictures in files of a folder, or in parquet files on this machine.

    Args:
        name: the folder of embeddings, for messages.
        manifest: what made it.

    Raises:
        ValueError: if it was made from texts, from shards or from the Hub, which are not read again; if what it was
            made from is not there any more, or has other rows.
    """

    def __init__(self, name: str, manifest: Plan):
        self._name, self._manifest = name, manifest
        self._source = str(manifest["dataset"]["source"])
        if manifest["modality"] == "text":
            raise ValueError(f"{name}: embeddings of texts, which are no pictures")
        kind = manifest["dataset"].get("kind")
        if kind not in ("files", "parquet"):
            raise ValueError(f"{name}: its pictures are in {self._source} ({kind}), which is not read again")
        column = None if kind == "files" else manifest["column"]
        try:
            opened = open_collection(self._source, manifest["modality"], column)
        except ValueError as error:
            raise ValueError(
                f"{name}: the pictures that it was made from cannot be opened ({one_line(error)})"
            ) from error
        if not isinstance(opened, (FolderFiles, ParquetFiles)):
            raise ValueError(f"{name}: {self._source} is something else than when it was embedded")
        self._collection: FolderFiles | ParquetFiles = opened
        identity = {key: value for key, value in manifest["dataset"].items() if key != "source"}
        # Files are known by their names, so that it does not matter what else is in their folder now.
        if kind == "parquet" and opened.identity != identity:
            raise ValueError(f"{name}: {self._source} has other rows than those that were embedded")

    def find(self, ids: Sequence[object]) -> list[object]:
        """The pictures of rows: the paths of files, or what the cells of a column hold, decoded.

        Raises:
            ValueError: if a file is not there any more, or an id is that of several rows or of none.
        """
        if isinstance(self._collection, FolderFiles):
            return [self._existing(self._collection.path(str(name))) for name in ids]
        numbers = self._numbers(self._collection, ids)
        return [_cell(self._collection, numbers[name]) for name in ids]

    def _existing(self, path: str) -> str:
        if not os.path.isfile(path):
            raise ValueError(f"{path}: no such file any more, from which {self._name} was made")
        return path

    def _numbers(self, rows: ParquetFiles, ids: Sequence[object]) -> Mapping[object, int]:
        """Id → the number of its row among all."""
        column = self._manifest["id_column"]
        if column is None:
            return {name: int(str(name)) for name in ids}
        wanted, row = set(ids), 0
        found: dict[object, int] = {}
        for table in rows.tables(Part(0, 0, rows.rows), 0, [column]):
            for number, name in enumerate(table[column].to_pylist(), start=row):
                if name in found:
                    raise ValueError(
                        f"{self._source}: several rows have the {column} {name!r}, so its picture is unclear"
                    )
                if name in wanted:
                    found[name] = number
            row += len(table)
        if missing := wanted - found.keys():
            raise ValueError(f"{self._source}: no row has the {column} {min(map(str, missing))!r} any more")
        return found


def _cell(rows: ParquetFiles, number: int) -> object:
    """What the embedded column holds in a row, decoded."""
    (table,) = rows.tables(Part(0, number, 1), 0, [rows.column])
    dataset = Dataset(table)
    if is_picture(dataset.features[rows.column]):
        dataset = dataset.cast_column(rows.column, Image())
    cell: object = dataset[0][rows.column]
    return cell
