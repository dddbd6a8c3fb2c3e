"""The rows that a run trains on or validates with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from datasets import Dataset

from ...data.cells import columns_of
from ...data.splits import Rows, load_joined, load_splits
from .arguments import IMAGES, TEXTS, DataArguments
from .captions import columns_of_templates

_AUTO, _USUAL = "auto", "validation"


def with_validation_split(options: DataArguments) -> DataArguments:
    """The options with the split to validate on: "auto" is the split "validation", or none where the data has none.

    Raises:
        ValueError: if a data set cannot be loaded.
    """
    if options.validation_split != _AUTO:
        return options
    splits = [load_splits(name, options.train_split, options.streaming) for name in options.dataset]
    return replace(options, validation_split=_USUAL if any(_USUAL in found for found in splits) else "")


def with_columns(options: DataArguments) -> DataArguments:
    """The options with columns that the data has: where none is called as usual, the only one that holds the like.

    The first data set decides. A column that is called otherwise than usual by the options was given by a person.

    Raises:
        ValueError: if a column is not there, or it is not clear which one is meant; the message names the option, and
            lists the columns and what they hold.
    """
    found = next(_training_rows(options), None)
    if found is None:  # reading the rows says so
        return options
    columns = columns_of(*found)
    given = {"depth_column": options.depth_column, "id_column": options.id_column, "boxes_column": _boxes(options)}
    for option, column in given.items():
        if column:
            columns.require(column, f"--{option}")
    taken = {column for column in [*given.values(), options.text_column, options.image_column] if column}
    text = columns.choose(
        "text",
        None if options.text_column == TEXTS else options.text_column,
        option="--text_column",
        usual=TEXTS,
        taken=taken - {TEXTS},
        lists=True,
    )
    image = options.image_column and columns.choose(
        "image",
        None if options.image_column == IMAGES else options.image_column,
        option="--image_column, or --image_column '' to train without",
        usual=IMAGES,
        taken={*taken, text} - {IMAGES},
    )
    return replace(options, text_column=text, image_column=image)


def taken_lines(asked: DataArguments, found: DataArguments) -> list[str]:
    """What to say of columns that were found by what they hold, see `with_columns`."""
    pairs: Mapping[str, tuple[str, str]] = {
        "--text_column": (asked.text_column, found.text_column),
        "--image_column": (asked.image_column, found.image_column),
    }
    return [
        f"no column {usual!r}: {column!r} is the only one of its kind, and is taken; {option} names another"
        for option, (usual, column) in pairs.items()
        if usual != column
    ]


def _training_rows(options: DataArguments) -> Iterator[tuple[str, Rows]]:
    """The data sets that have the split to train on, and their rows."""
    for name in options.dataset:
        rows = load_splits(name, options.train_split, options.streaming).get(options.train_split)
        if rows is not None:
            yield name, rows


def sizes_of_data(options: DataArguments) -> list[int]:
    """The number of training rows of each data set; none for one without the split."""
    splits = [load_splits(name, options.train_split).get(options.train_split) for name in options.dataset]
    return [0 if rows is None else len(cast(Dataset, rows)) for rows in splits]


def load_rows(options: DataArguments, split: str, also: Sequence[str] = ()) -> Rows:
    """Load the rows of all data sets that have the split, with the columns that are used; pictures undecoded.

    Args:
        options: name data sets and columns.
        split: the split.
        also: further columns.

    Raises:
        ValueError: if a data set cannot be loaded, lacks a column, or none has the split.
    """
    if not options.dataset:
        raise ValueError("no data: give --dataset (a Hub id, a folder, parquet files or WebDataset shards)")
    objects = [options.boxes_column, options.regions_column, options.names_column]  # and the name of a value in them
    columns = [
        options.text_column,
        options.image_column,
        options.depth_column,
        options.id_column,
        *(column.partition(".")[0] for column in objects),
        *columns_of_templates(options.text_templates),
        *also,
    ]
    return load_joined(
        options.dataset,
        split,
        list(dict.fromkeys(filter(None, columns))),
        split_of_files=options.train_split,  # files that are named are the training data
        streaming=options.streaming,
    )


def _boxes(options: DataArguments) -> str:
    """The column that holds the boxes, or the objects that have them."""
    return options.boxes_column.partition(".")[0]
