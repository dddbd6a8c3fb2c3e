"""Collections that a command reads: a folder of files, a parquet file, or a data set on the Hub."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Image, Value, load_dataset

from ..models.input_errors import printable

SUFFIXES = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"),
    "depth": (".png", ".tif", ".tiff", ".npy", ".npz", ".pt", ".pgm", ".jp2"),
}
_NOUNS = {"image": "image", "depth": "depth map", "text": "text"}
_FILE_COLUMN = "file"
_LABEL_LENGTH = 80
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """A data set, and which column of it is embedded as what.

    Args:
        name: what it was opened by.
        dataset: its rows; those of a folder have the column `file`. Pictures of other columns stay undecoded.
        column: what is embedded.
        modality: "text", "image" or "depth".
    """

    name: str
    dataset: Dataset
    column: str
    modality: str

    @property
    def rows(self) -> Dataset:
        """Without pictures, so that they are not read for their words."""
        return self.dataset.remove_columns(
            [name for name, feature in self.dataset.features.items() if is_picture(feature)]
        )

    def label(self, index: int, row: dict[str, Any]) -> str:
        """What a person knows a row by: its file, or its number and words."""
        if self.column == _FILE_COLUMN:
            return printable(row[_FILE_COLUMN])
        return f"row {index}  {printable(_words(row, self.column)[:_LABEL_LENGTH])}".rstrip()

    def caption(self, index: int, row: dict[str, Any]) -> str:
        """The same in few letters: the name of the file, or the words of the row."""
        if self.column == _FILE_COLUMN:
            return Path(row[_FILE_COLUMN]).name
        return _words(row, self.column) or f"row {index}"

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors about a row say which collection it is of; those about a file name that already."""
        try:
            yield
        except ValueError as error:
            if self.column == _FILE_COLUMN:
                raise
            raise ValueError(f"{self.name}: {error}") from error


def open_source(
    source: str, modality: str, column: str | None = None, split: str | None = None, column_option: str = "--column"
) -> Source:
    """Find and open a collection.

    Args:
        source: a folder of files, one such file, a parquet file, or the id of a data set on the Hub.
        modality: "text", "image" or "depth": what is embedded.
        column: of a parquet file or data set; by default the one of that name, or the only one of that kind.
        split: of a data set on the Hub; by default its only one.
        column_option: the caller's option for the column, which messages name.

    Raises:
        ValueError: if there is nothing to embed in it, or the column or split is not there or not clear.
    """
    path = Path(source)
    is_parquet = path.suffix == ".parquet"
    if path.exists() and not is_parquet:
        if modality == "text":
            raise ValueError(f"{source}: texts are read from a parquet file or a data set on the Hub")
        if column or split:
            raise ValueError(f"{source}: a folder or file has no {column_option} or --split")
        return Source(source, _list_folder(path, modality), _FILE_COLUMN, modality)
    if is_parquet:
        if split:
            raise ValueError(f"{source}: a parquet file has no --split")
        dataset = _read_parquet(path)
    elif _HUB_ID.fullmatch(source) and not path.parent.exists():  # a file missing in a folder is not asked for
        dataset = _load_split(source, split)
    else:
        raise ValueError(f"{source}: no such file or folder")
    return _with_column(source, dataset, modality, column, column_option)


def list_files(paths: Sequence[Path], modality: str) -> list[Path]:
    """The files among the paths, and below each folder the images or depth maps in alphabetical order.

    Raises:
        ValueError: if a folder holds none.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES[modality])
            if not found:
                looked_for = ", ".join(SUFFIXES[modality])
                raise ValueError(f"{path}: no {_NOUNS[modality]} in this folder (looked for {looked_for})")
            files += found
        else:
            files.append(path)
    return files


def choose_column(
    source: str, features: Features, modality: str, column: str | None = None, column_option: str = "--column"
) -> str:
    """Which column is embedded: the one said, else the one named like the modality, else the only one of that kind.

    Raises:
        ValueError: if it is not there, or not clear.
    """
    fitting = [name for name, feature in features.items() if _fits(feature, modality)]
    columns = ", ".join(features)
    if column is None:
        named = [name for name in fitting if name == modality]
        column = next(iter(named or fitting if len(named or fitting) == 1 else []), None)
        if column is None:
            question = f"which column holds the {_NOUNS[modality]}s? Say {column_option}; it has {columns}"
            raise ValueError(f"{source}: {question}")
    if column not in features:
        raise ValueError(f"{source}: no column {column!r}; it has {columns}")
    return column


def is_picture(feature: Any) -> bool:
    """Whether a column holds encoded pictures, said to be such (`Image`) or not (as other writers of parquet do)."""
    if isinstance(feature, Value):
        return feature.dtype in ("binary", "large_binary")
    return isinstance(feature, Image) or (isinstance(feature, dict) and "bytes" in feature)


def _list_folder(path: Path, modality: str) -> Dataset:
    files = [str(file) for file in list_files([path], modality)]
    try:
        return Dataset.from_dict({_FILE_COLUMN: files})
    except UnicodeEncodeError as error:
        raise ValueError(f"{printable(str(error.object))}: its name is no UTF-8; rename it") from error


def _read_parquet(path: Path) -> Dataset:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return Dataset.from_parquet(str(path))
    except Exception as error:  # datasets wraps what Arrow says
        raise ValueError(f"{path}: not a readable parquet file ({error.__cause__ or error})") from error


def _load_split(name: str, split: str | None) -> Dataset:
    try:
        loaded = load_dataset(name, split=split)
    except Exception as error:  # the Hub, the network, the files of the data set
        raise ValueError(f"{name}: no such file or folder here, and no data set that loads: {error}") from error
    if isinstance(loaded, DatasetDict):
        if len(loaded) > 1:
            raise ValueError(f"{name}: has the splits {', '.join(loaded)}; choose one with --split")
        return next(iter(loaded.values()))
    return loaded


def _with_column(source: str, dataset: Dataset, modality: str, column: str | None, column_option: str) -> Source:
    column = choose_column(source, dataset.features, modality, column, column_option)
    for name, feature in dataset.features.items():
        if name == column and modality != "text" and is_picture(feature):
            dataset = dataset.cast_column(name, Image())
        elif name != column and isinstance(feature, Image):
            dataset = dataset.cast_column(name, Image(decode=False))
    return Source(source, dataset, column, modality)


def _fits(feature: Any, modality: str) -> bool:
    if modality == "text":
        return isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    return is_picture(feature)


def _words(row: dict[str, Any], column: str) -> str:
    """The column itself if it is text, else the row's first text, on one line."""
    texts = [row.get(column), *row.values()]
    return next((" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()), "")
