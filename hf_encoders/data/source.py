"""Data sets of which one column is embedded, with all rows at hand: `open_source`."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from datasets import Dataset, DatasetDict, Image, load_dataset

from ..modalities import PICTURES, Modality, column_modality, default_modality, files_modality, modalities
from ..models.input_errors import printable
from .agreement import check_files_agree
from .cells import columns_of
from .columns import KEY, URL, is_picture
from .location import Location, left_out, locate, picture_files, pictures_of
from .text_rows import with_paths

_FILE_COLUMN = "file"
_LABEL_LENGTH = 80

# A row of a data set: column → value, as `datasets` gives it.
Row: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Source:
    """A data set, and which column of it is embedded as what.

    Args:
        name: the name by which it was opened.
        dataset: its rows. Those of files have the column `file`. Pictures of other columns stay undecoded.
        column: the column that is embedded.
        modality: "text", "image" or "depth".
        left_out: what of a folder is left out, on one line.
    """

    name: str
    dataset: Dataset
    column: str
    modality: Modality
    left_out: str = ""

    @property
    def rows(self) -> Dataset:
        """The data set without pictures, so that reading its words reads no pictures."""
        return self.dataset.remove_columns(
            [name for name, feature in self.dataset.features.items() if is_picture(feature)]
        )

    def label(self, index: int, row: Row) -> str:
        """What a person knows a row by: its file, or its number and words."""
        if self.column == _FILE_COLUMN:
            return printable(str(row[_FILE_COLUMN]))
        return f"row {index}  {printable(_words(row, self.column)[:_LABEL_LENGTH])}".rstrip()

    def caption(self, index: int, row: Row) -> str:
        """A short label: the name of the file, or the words of the row."""
        if self.column == _FILE_COLUMN:
            return Path(str(row[_FILE_COLUMN])).name
        return _words(row, self.column) or f"row {index}"

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors about a row say which data set it is of; errors about a file name the file already."""
        try:
            yield
        except ValueError as error:
            if self.column == _FILE_COLUMN:
                raise
            raise ValueError(f"{self.name}: {error}") from error


def open_source(
    name: str,
    modality: Modality,
    column: str | None = None,
    split: str | None = None,
    *,
    column_option: str = "--column",
) -> Source:
    """Find and open a data set.

    Args:
        name: see `locate`. WebDataset shards and data sets on the Hub are first written into the cache of `datasets`.
        modality: "text", "image" or "depth": what is embedded.
        column: a column of rows; by default the one named like the modality, or the only one of that kind.
        split: a split on the Hub, by default the only one; or of a folder of parquet files or shards, by default all.
        column_option: the option that a message asks for.

    Raises:
        ValueError: if there is nothing to embed in it, or the column or split is not there or not clear.
    """
    location = locate(name)
    if location.kind == "pictures":
        files = picture_files(location, modality, column, split, column_option)
        rows = Dataset.from_dict({_FILE_COLUMN: files})
        return Source(name, rows, _FILE_COLUMN, modality, left_out(location, modality))
    dataset = _load_from_hub(name, split) if location.kind == "hub" else _load_files(location.in_split(split))
    column = columns_of(name, dataset).choose(modality, column, option=column_option)
    return Source(name, _decoding_only(dataset, column, modality), column, modality, left_out(location, modality))


def open_pictures(
    model: object, name: str, modality: Modality | None, column: str | None = None, split: str | None = None
) -> Source:
    """As `open_source`; without a modality, that of the pictures themselves.

    Args:
        model: what embeds them.
        name: see `open_source`, as for `column` and `split`.
        modality: the one that a person said, if any.

    Raises:
        ValueError: also if some files are images and some depth maps.
    """
    if modality is None and "text" == default_modality(model):
        modality = "text"  # no file is looked at: a folder of pictures is said to be none of texts
    if modality is not None:
        return open_source(name, modality, column, split)
    location = locate(name)
    if location.kind == "pictures":
        return open_source(name, files_modality(model, pictures_of(location)), column, split)
    source = open_source(name, default_modality(model), column, split)
    return replace(source, modality=column_modality(model, source.dataset, source.column))


def open_all_pictures(model: object, name: str, column: str | None = None, split: str | None = None) -> list[Source]:
    """Open a data set once for each modality that the model embeds and some column holds: images and depth maps, say.

    Args:
        model: what embeds them.
        name: see `open_source`, as for `split`.
        column: the only one that is embedded; by default all columns of pictures, and texts where there are none.

    Returns:
        At least one source. All have the same rows.

    Raises:
        ValueError: if there is nothing to embed in it, or several columns hold pictures of one modality.
    """
    known = [modality for modality in PICTURES if modality in modalities(model)]
    first = _open_known(model, name, column, split)
    if column is not None or first.column == _FILE_COLUMN or first.modality == "text":
        return [first]
    sources = [first]
    columns = columns_of(name, first.dataset)
    for modality in (modality for modality in known if modality != first.modality):
        found = columns.candidates(modality, taken=[first.column])
        if len(found) == 1 and column_modality(model, first.dataset, found[0]) == modality:
            dataset = _decoding_only(first.dataset, found[0], modality)
            sources.append(replace(first, dataset=dataset, column=found[0], modality=modality))
    return sources


def _open_known(model: object, name: str, column: str | None, split: str | None) -> Source:
    """The modality that the model embeds by default; else another one that the data set holds."""
    try:
        found = open_pictures(model, name, None, column, split)
    except ValueError as error:
        for modality in modalities(model):
            if column is None and modality != default_modality(model):
                with suppress(ValueError):
                    return open_source(name, modality, None, split)
        raise error
    is_text = found.column != _FILE_COLUMN and columns_of(name, found.dataset).holds_words(found.column)
    return replace(found, modality="text") if is_text and "text" in modalities(model) else found


def _load_files(location: Location) -> Dataset:
    if location.kind == "parquet" and not location.is_remote:
        check_files_agree(location.files)  # also names a file that is damaged
    try:
        rows = load_dataset(**location.files_loader, split="train")
    except Exception as error:  # datasets wraps what Arrow and the archives say
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"{location.name}: cannot be loaded ({reason})") from error
    return with_paths(rows, os.path.dirname(location.files[0])) if location.is_text else rows


def _load_from_hub(name: str, split: str | None) -> Dataset:
    try:
        loaded = load_dataset(name, split=split)
    except Exception as error:  # the Hub, the network, the files of the data set
        raise ValueError(f"{name}: no such file or folder here, and no data set that loads: {error}") from error
    if not isinstance(loaded, DatasetDict):
        return loaded
    if len(loaded) > 1:
        raise ValueError(f"{name}: has the splits {', '.join(loaded)}; choose one with --split")
    return next(iter(loaded.values()))


def _decoding_only(dataset: Dataset, column: str, modality: Modality) -> Dataset:
    """The data set with pictures decoded in that column and in no other."""
    for name, feature in dataset.features.items():
        if name == column and modality != "text" and is_picture(feature):
            dataset = dataset.cast_column(name, Image())
        elif name != column and isinstance(feature, Image):
            dataset = dataset.cast_column(name, Image(decode=False))
    return dataset


def _words(row: Row, column: str) -> str:
    """The column itself if it is text, else the row's first text, else its key; on one line."""
    others = [value for name, value in row.items() if name not in (KEY, URL)]
    texts = [row.get(column), *others, row.get(KEY)]
    return next((" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()), "")
