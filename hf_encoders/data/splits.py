"""Whole data sets, split by split, as evaluation and training read them: `load_splits`."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from datasets import (
    ClassLabel,
    Dataset,
    DatasetBuilder,
    Features,
    IterableDataset,
    Value,
)

from ..fingerprint import sha256
from ..models.input_errors import one_line
from .agreement import check_files_agree
from .joining import join
from .location import Location, left_out, locate, picture_files, split_file
from .names import SUFFIXES, TEXT_FORMATS
from .picture_folder import builder_of, left_out_of_splits
from .text_files import check_encoding
from .text_rows import with_paths

_SHARDS = 64  # of a stream of rows at hand, for the processes that read it
# The rows of a split: at hand, or read while iterating.
Rows: TypeAlias = Dataset | IterableDataset


def load_splits(name: str, split_of_files: str, streaming: bool = False) -> dict[str, Rows]:
    """Load every split of a data set.

    A folder is read as `datasets.load_dataset` does: its splits are found by names, pictures have the columns `image`,
    those of a `metadata` file, and `label` where they lie in several folders. Depth maps in files that it does not
    know (.npy, .npz, .pt) have the columns `depth` and, in the same way, `label`.

    Args:
        name: see `locate`.
        split_of_files: what files that are not divided into splits are called.
        streaming: read while iterating, without a copy on disk.

    Returns:
        Split → rows.

    Raises:
        ValueError: if it cannot be loaded.
    """
    location = locate(name)
    if maps := _map_files(location):
        rows = _rows_of_maps(maps)
        return {split_of_files: rows.to_iterable_dataset() if streaming else rows}
    if location.kind == "parquet" and not location.is_remote:
        check_files_agree(_files_of_all_splits(location))
    if location.is_text:  # `datasets` takes lines of JSON undecoded, and they fail where they are read
        check_encoding(location.files)
    try:
        # A copy of text is small, and what is wrong with it is found here, not while it is trained on.
        loaded = _load(builder_of(location), streaming and not location.is_text)
    except Exception as error:  # the Hub, the network, the files: datasets raises what it likes
        check_encoding(_text_files(location), utf8_only=not location.is_text)  # names the file that is the cause
        raise ValueError(f"{name}: cannot be loaded ({one_line(error.__cause__ or error)})") from error
    if location.is_text:
        rows = with_paths(loaded["train"], os.path.dirname(location.files[0]))
        return {split_of_files: rows.to_iterable_dataset(min(len(rows), _SHARDS) or 1) if streaming else rows}
    return {split_of_files: loaded["train"]} if _is_one_split(location) else dict(loaded)


def load_split(name: str, split: str, option: str = "--split") -> Dataset:
    """Load the rows of one split, also of a file `SPLIT.parquet` in a folder whose splits have other names.

    Args:
        name: see `locate`.
        split: the split; what files are called that are not divided into splits.
        option: the option by which a person chooses it.

    Raises:
        ValueError: if the data set cannot be loaded, or has no such split: the message lists those that it has.
    """
    splits = load_splits(name, split)
    if split not in splits and (file := split_file(name, split)):
        splits = load_splits(file, split)
    rows = splits.get(split)
    if not isinstance(rows, Dataset):
        raise ValueError(f"{name}: no split {split!r}, it has {', '.join(splits)}; choose with {option}")
    return rows


def load_joined(
    names: Sequence[str], split: str, columns: Sequence[str], *, split_of_files: str = "train", streaming: bool = False
) -> Rows:
    """Load one split of several data sets as one.

    Args:
        names: see `locate`. Data sets without the split are left out; a file `SPLIT.parquet` in a folder is one.
        split: the split.
        columns: the columns to keep. Pictures stay undecoded, so that one bad picture does not stop the rest.
        split_of_files: see `load_splits`.
        streaming: see `load_splits`.

    Raises:
        ValueError: if a data set cannot be loaded, none has the split, or columns do not fit together, see `join`.
    """
    found: list[str] = []
    parts: list[Rows] = []
    for name in names:
        rows = load_splits(name, split_of_files, streaming).get(split)
        if rows is None and (file := split_file(name, split)):
            rows = load_splits(file, split, streaming)[split]
        if rows is not None:
            found.append(name)
            parts.append(rows)
    if not found:
        raise ValueError(f"{', '.join(names)}: no split {split!r}")
    return join(found, parts, columns)


def data_revision(name: str, split: str) -> dict[str, str]:
    """What distinguishes a split from its other versions.

    Returns:
        `dataset_revision`, the commit on the Hub; or `dataset_sha256`, the hash of the local file, or of the hashes of
        several.
    """
    location = locate(name)
    if maps := _map_files(location):
        return {"dataset_sha256": _hash_of_files(maps)}
    builder = builder_of(location)
    files = (builder.config.data_files or {}).get("train" if _is_one_split(location) else split)
    if not files and (file := split_file(name, split)):
        files = [file]
    if not files or any("://" in file for file in files):
        return {"dataset_revision": builder.hash}
    return {"dataset_sha256": _hash_of_files(map(Path, files))}


def left_out_of(name: str) -> str:
    """What of a folder `load_splits` leaves out, counted by kind, on one line; empty if nothing, or for no folder.

    Raises:
        ValueError: see `locate`.
    """
    location = locate(name)
    if location.listing is None or _map_files(location):
        return left_out(location, "depth")
    return left_out_of_splits(location, builder_of(location))


def _load(builder: DatasetBuilder, streaming: bool) -> Mapping[str, Rows]:
    if streaming:
        return dict(builder.as_streaming_dataset())
    builder.download_and_prepare()
    return dict(builder.as_dataset())


def _files_of_all_splits(location: Location) -> list[str]:
    """The files that `datasets` reads: of a folder with names of splits, the others are none of them."""
    if not location.is_folder:
        return list(location.files)
    try:
        files = builder_of(location).config.data_files or {}
    except Exception as error:  # datasets raises what it likes
        raise ValueError(f"{location.name}: cannot be loaded ({one_line(error)})") from error
    return [str(file) for split in files.values() for file in split]


def _text_files(location: Location) -> list[Path]:
    """The text files of a location: rows, or the metadata of pictures."""
    if location.listing is not None:
        return [Path(file) for file in location.listing.of_kinds(TEXT_FORMATS)]
    return [file for file in map(Path, location.files) if file.suffix.lower() in TEXT_FORMATS and file.is_file()]


def _is_one_split(location: Location) -> bool:
    return not location.is_folder and location.kind != "hub"


def _map_files(location: Location) -> list[Path]:
    """The depth maps of a location whose files `datasets` does not know; none if it knows some of them."""
    if location.kind != "pictures":
        return []
    known_to_datasets = {".csv", ".jsonl", ".json", ".txt", ".parquet", ".arrow", ".zip", *SUFFIXES["image"]}
    if location.listing is not None:
        suffixes = set(location.listing.suffixes())
    else:
        suffixes = {Path(file).suffix.lower() for file in location.files}
    if suffixes & known_to_datasets or not suffixes & set(SUFFIXES["depth"]):
        return []
    return [Path(file) for file in picture_files(location, "depth")]


def _rows_of_maps(files: Sequence[Path]) -> Dataset:
    folders = [file.parent.name for file in files]
    columns = {"depth": [str(file) for file in files]}
    features = Features({"depth": Value("string")})
    if len(set(folders)) > 1:
        columns["label"] = folders
        features["label"] = ClassLabel(names=sorted(set(folders)))
    return Dataset.from_dict(columns, features=features)


def _hash_of_files(files: Iterable[Path]) -> str:
    digests = [sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
