"""The splits and columns that an evaluation measures."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from datasets import Dataset

from ..data.cells import columns_of
from ..data.columns import Columns
from ..data.location import split_file
from ..data.names import split_names
from ..data.splits import Rows, data_revision, load_splits
from ..modalities import MODALITIES, PICTURES, Encoder, Modality, encoder, modalities
from .embedded_columns import EmbeddedColumns
from .options import COLUMNS, PROBES, EvaluationOptions

# What is written as JSON.
Report: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Split:
    """The rows of one split, and where they are from."""

    name: str
    split: str
    rows: Dataset

    @property
    def columns(self) -> Columns:
        """Its columns, to choose from."""
        return columns_of(self.name, self.rows)

    def require(self, columns: Iterable[str], option: str) -> None:
        """Refuse a data set without one of the columns.

        Args:
            columns: their names.
            option: the option that names such a column.
        """
        for column in columns:
            self.columns.require(column, option)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors about a row or label say which data set it is of."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def report(self, embedded: EmbeddedColumns) -> Report:
        """The data set, its version, and the number of rows."""
        count = int(embedded.kept.sum())
        origin = {"dataset": self.name, "split": self.split} | data_revision(self.name, self.split)
        return origin | {"rows": count, "skipped_rows": len(embedded.kept) - count, "skipped": embedded.skipped}


def open_splits(options: EvaluationOptions) -> tuple[list[Split], Split | None]:
    """The splits to measure on; and the one that the probes learn from, if there are any."""
    names = split_names(options.split, "--split")
    if not names:
        raise ValueError(f"--split {options.split}: names no split")
    splits = load_splits(options.dataset, names[0])
    tests = [_split(options.dataset, name, splits, "--split", options.limit) for name in names]
    train = None
    if set(PROBES) & set(options.tasks):
        name = options.train_dataset or options.dataset
        splits = load_splits(name, options.train_split) if options.train_dataset else splits
        train = _split(name, options.train_split, splits, "--train-split, or give --train-dataset", options.limit)
        if any(train.rows.cache_files == test.rows.cache_files for test in tests):
            raise ValueError(f"{name}: train and test are the same rows; give another --train-split or --train-dataset")
    return tests, train


def _split(name: str, split: str, splits: Mapping[str, Rows], option: str, limit: int | None) -> Split:
    if split not in splits and (file := split_file(name, split)):
        splits = load_splits(file, split)
    if split not in splits:
        raise ValueError(f"{name}: no split {split!r}, it has {', '.join(splits)}; choose with {option}")
    rows = splits[split]
    return Split(name, split, rows if limit is None else rows.take(min(limit, len(rows))))


def choose_columns(options: EvaluationOptions, model: Encoder, test: Split) -> dict[str, str]:
    """Modality → the column that is embedded."""
    given: Mapping[Modality, str | None] = {
        "text": options.text_column,
        "image": options.image_column,
        "depth": options.depth_column,
    }
    wanted = options.modalities or [name for name in MODALITIES if given[name] or name in modalities(model)]
    for modality in wanted:
        if options.modalities or given[modality]:
            encoder(model, modality)  # refuses a modality that the model does not embed
    columns = _find_columns(options, given, wanted, test)
    chosen = list(columns)
    found = f"model and {test.name} share {', '.join(chosen) or 'none'}; the data has {test.columns.listed()}"
    found += " (--text-column, --image-column and --depth-column name columns)"
    if "retrieval" in options.tasks and len(set(chosen)) < 2:
        raise ValueError(f"--tasks retrieval needs two of {', '.join(MODALITIES)}; {found}")
    if "zero-shot" in options.tasks:
        encoder(model, "text")
    of_texts = chosen == ["text"] and modalities(model) == ("text",) and "zero-shot" not in options.tasks
    if set(options.tasks) != {"retrieval"} and not set(PICTURES) & set(chosen) and not of_texts:
        raise ValueError(f"--tasks {' '.join(options.tasks)} needs {' or '.join(PICTURES)}; {found}")
    # Labels are embedded by zero-shot itself; captions are for retrieval, and probed where a model has nothing else.
    return {name: columns[name] for name in chosen if name != "text" or of_texts or "retrieval" in options.tasks}


def _find_columns(
    options: EvaluationOptions, given: Mapping[Modality, str | None], wanted: Sequence[Modality], test: Split
) -> dict[Modality, str]:
    """Modality → its column: the one given, the one with the usual name, or else the only one that can be it.

    What nobody asked for by name, and cannot be found, is left out. Depth maps go by their name alone, unless they are
    asked for: a column of pictures is one of images.
    """
    known = test.columns
    taken = {column for column in [*given.values(), *options.label_columns] if column}
    columns: dict[Modality, str] = {}
    for modality in wanted:
        usual, option = COLUMNS[modality], f"--{modality}-column"
        others = {*taken, *columns.values(), *(set(COLUMNS.values()) - {usual})} - {given[modality]}
        if given[modality] or options.modalities:
            column = known.choose(
                modality, given[modality], option=option, usual=usual, taken=others, lists=modality == "text"
            )
            columns[modality] = column
        elif usual in known.features:
            columns[modality] = usual
        elif modality == "image" or (modality == "text" and _reads_texts(options, wanted)):
            found = known.candidates(modality, usual=usual, taken=others, lists=modality == "text")
            columns |= {modality: found[0]} if len(found) == 1 else {}
    return columns


def _reads_texts(options: EvaluationOptions, wanted: Sequence[Modality]) -> bool:
    """Whether captions are needed: for retrieval, and where a model embeds nothing else."""
    return "retrieval" in options.tasks or list(wanted) == ["text"]


def choose_train_columns(options: EvaluationOptions, columns: Mapping[str, str], train: Split) -> dict[str, str]:
    """Modality → the column that the probes learn from.

    These are the pictures of test: all that were asked for, or by default those that train has; texts without pictures.
    """
    if set(columns) == {"text"}:
        train.require(columns.values(), "--text-column")
        return dict(columns)
    pictures: dict[str, str] = {name: column for name, column in columns.items() if name in PICTURES}
    if not options.modalities:
        pictures = {name: column for name, column in pictures.items() if column in train.rows.column_names} or pictures
    for name, column in pictures.items():
        train.require([column], f"--{name}-column")
    return pictures


def choose_labels(options: EvaluationOptions, parts: Sequence[Split]) -> list[str]:
    """The columns of the classes, which all parts have; none for retrieval alone."""
    tasks = [task for task in options.tasks if task != "retrieval"]
    if not tasks:
        return []
    if not options.label_columns:
        raise ValueError(
            f"--tasks {' '.join(tasks)}: give --label-column; {parts[0].name} has {parts[0].columns.listed()}"
        )
    for part in parts:
        part.require(options.label_columns, "--label-column")
        part.require([options.group_column] if options.group_column else [], "--by")
    return list(options.label_columns)
