"""The rows of data sets of captions, images and depth maps: on the Hub, in folders, files and shards."""

import hashlib
from pathlib import Path
from typing import Any

from datasets import Image, concatenate_datasets, load_dataset, load_dataset_builder

from ..fingerprint import sha256
from ..models.input_errors import one_line
from ..training.multimodal.arguments import DataArguments

_FORMATS = {".parquet": "parquet", ".tar": "webdataset"}


def load_rows(options: DataArguments, split: str) -> Any:
    """The rows of all data sets that have the split, with the columns that are used; pictures undecoded.

    Raises:
        ValueError: if a data set cannot be loaded, lacks a column, or none has the split.
    """
    if not options.dataset:
        raise ValueError("no data: give --dataset (a Hub id, a folder, parquet files or WebDataset shards)")
    parts = [_load(name, split, options) for name in options.dataset]
    parts = [part for part in parts if part is not None]
    if not parts:
        raise ValueError(f"{', '.join(options.dataset)}: no split {split!r}")
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def load_splits(name: str, split_of_files: str, streaming: bool = False) -> dict[str, Any]:
    """Split → rows of one data set.

    Args:
        name: Hub id or folder; or parquet files or WebDataset shards, which are one split.
        split_of_files: what that is called.
        streaming: read while iterating, without a copy on disk.

    Raises:
        ValueError: if it cannot be loaded.
    """
    try:
        loaded = load_dataset(**_reader(name), streaming=streaming)
    except Exception as error:  # the Hub, the network, the files: datasets raises what it likes
        raise ValueError(f"{name}: cannot be loaded ({one_line(error)})") from error
    return {split_of_files: loaded["train"]} if _is_files(name) else dict(loaded)


def data_revision(name: str, split: str) -> dict[str, str]:
    """What tells a split from other versions of it: `dataset_revision`, its commit on the Hub, or `dataset_sha256`.

    The latter is of the local file; of several, it is that of their digests.
    """
    builder = load_dataset_builder(**_reader(name))
    files = (builder.config.data_files or {}).get("train" if _is_files(name) else split)
    if not files or any("://" in file for file in files):
        return {"dataset_revision": builder.hash}
    digests = [sha256(Path(file)) for file in files]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {"dataset_sha256": whole}


def _is_files(name: str) -> bool:
    return Path(name).suffix in _FORMATS


def _reader(name: str) -> dict[str, str]:
    """What `datasets` takes for the name."""
    return {"path": _FORMATS[Path(name).suffix], "data_files": name} if _is_files(name) else {"path": name}


def _load(name: str, split: str, options: DataArguments) -> Any:
    # Files that are named are the training data.
    rows = load_splits(name, options.train_split, options.streaming).get(split)
    return None if rows is None else _with_columns(name, rows, options)


def _with_columns(name: str, rows: Any, options: DataArguments) -> Any:
    wanted = [options.text_column, options.image_column, options.depth_column, options.id_column]
    wanted = [column for column in [*wanted, options.boxes_column.partition(".")[0]] if column]
    for column in wanted:
        if column not in rows.column_names:
            raise ValueError(f"{name}: no column {column!r}; it has {', '.join(rows.column_names)}")
    rows = rows.select_columns(wanted)
    for column, feature in rows.features.items():
        if isinstance(feature, Image):  # decoded later, where one bad picture does not stop the rest
            rows = rows.cast_column(column, Image(decode=False))
    return rows
