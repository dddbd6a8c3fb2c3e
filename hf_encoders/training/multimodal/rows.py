"""The rows that a run trains on or validates with."""

from dataclasses import replace

from ...data.splits import Rows, load_joined, load_splits
from .arguments import DataArguments

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


def load_rows(options: DataArguments, split: str) -> Rows:
    """Load the rows of all data sets that have the split, with the columns that are used; pictures undecoded.

    Raises:
        ValueError: if a data set cannot be loaded, lacks a column, or none has the split.
    """
    if not options.dataset:
        raise ValueError("no data: give --dataset (a Hub id, a folder, parquet files or WebDataset shards)")
    boxes_column = options.boxes_column.partition(".")[0]
    columns = [options.text_column, options.image_column, options.depth_column, options.id_column, boxes_column]
    return load_joined(
        options.dataset,
        split,
        [column for column in columns if column],
        split_of_files=options.train_split,  # files that are named are the training data
        streaming=options.streaming,
    )
