"""What the name of a data set means: files on this machine, or a data set on the Hub."""

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypedDict

from datasets import load_dataset_builder

from ..modalities import Modality
from ..models.input_errors import one_line, printable
from ..places import check_on_hub, exists
from .listing import Listing, list_folder
from .names import FORMATS, SUFFIXES, TEXT_FORMATS, Kind, TextKind, check_data_name, is_pattern, is_url, suffixes_of
from .remote_path import RemotePath
from .text_rows import in_utf8

NOUNS: Mapping[Modality, str] = {"image": "image", "depth": "depth map", "text": "text"}

# Servers of single files.
_UNLISTED = ("http://", "https://")
_OF_TEXTS = "files of rows (.parquet, .jsonl, .json, .csv, .txt), patterns of them, WebDataset shards or the Hub"


class Loader(TypedDict, total=False):
    """Arguments of `datasets.load_dataset`."""

    path: str
    data_files: list[str]


@dataclass(frozen=True)
class Location:
    """Where the rows of a data set are.

    Args:
        name: the name as it was given, which messages begin with.
        kind: "pictures" for images or depth maps that are files of their own; "parquet" or "webdataset" for files of
            rows, "json", "csv" or "text" for those that are text; "hub" for a data set on the Hub.
        files: local paths or URLs in alphabetical order; empty on the Hub and for a folder of pictures.
        is_folder: whether the name is that of a folder.
        listing: what a folder holds, read once.
    """

    name: str
    kind: Kind
    files: tuple[str, ...] = ()
    is_folder: bool = False
    listing: Listing | None = field(default=None, compare=False, repr=False)

    @property
    def is_remote(self) -> bool:
        """Whether the files are URLs."""
        return any(map(is_url, self.files))

    @property
    def is_text(self) -> bool:
        """Whether the rows are in text files on this machine."""
        return self.kind in TEXT_FORMATS.values() and not self.is_remote

    @property
    def loader(self) -> Loader:
        """What `datasets.load_dataset` takes. It finds the splits of a folder by the names in it."""
        if self.is_folder or self.kind == "hub":
            return {"path": self.name}
        return self.files_loader

    @property
    def files_loader(self) -> Loader:
        """What `datasets.load_dataset` takes for all the files as one split, which it calls "train"."""
        files = [in_utf8(file) for file in self.files] if self.is_text else list(self.files)
        return {"path": "imagefolder" if self.kind == "pictures" else self.kind, "data_files": files}

    def in_split(self, split: str | None) -> "Location":
        """The files of one split of a folder; all files where no split is given.

        Raises:
            ValueError: if the files are not divided into splits, or there is no such split.
        """
        if split is None:
            return self
        if not self.is_folder or self.kind == "pictures":
            raise ValueError(f"{self.name}: files have no --split; only folders of parquet files or shards have some")
        try:
            files = load_dataset_builder(self.name).config.data_files
        except Exception as error:  # datasets raises what it likes
            raise ValueError(f"{self.name}: cannot be loaded ({one_line(error)})") from error
        if split not in files and (file := split_file(self.name, split)):
            return replace(self, files=(file,))
        if split not in files:
            raise ValueError(f"{self.name}: no split {split!r}; it has {', '.join(map(str, files))}")
        return replace(self, files=tuple(sorted(map(str, files[split]))))


def split_file(folder: str, split: str) -> str | None:
    """A parquet file of a folder that is called as a split is: `datasets` finds those of usual names alone."""
    file = Path(folder, f"{split}.parquet")
    return str(file) if file.parent == Path(folder) and file.is_file() else None


def locate(name: str) -> Location:
    """Find out what a name means.

    Args:
        name: a folder of parquet files, of WebDataset shards (.tar), or of images or depth maps; such a file, or one of
            rows as text (.jsonl, .json, .csv, .txt); a pattern such as `maps/*.parquet`; a URL of a parquet file or
            shard; or the id of a data set on the Hub.

    Raises:
        ValueError: if no file has the name and it is no id that the Hub has, or a folder has parquet files and shards.
    """
    check_data_name(name)
    path = Path(name)
    if is_url(name):
        return _at_url(name)
    if path.is_dir():
        listing = list_folder(name)
        kind, files = _files_of_rows(name, map(Path, listing.of_kinds(FORMATS)), path)
        return Location(name, kind or "pictures", files, is_folder=True, listing=listing)
    if path.is_file():
        return Location(name, FORMATS.get(path.suffix) or _text_kind([path]) or "pictures", (name,))
    if is_pattern(name):
        matches = sorted(file for file in map(Path, glob.glob(name, recursive=True)) if file.is_file())
        kind, files = _files_of_rows(name, matches, path.parent)
        return Location(name, kind or _text_kind(matches) or "pictures", files or tuple(map(str, matches)))
    if exists(name):
        raise ValueError(f"{name}: neither a file nor a folder")
    check_on_hub(name, "dataset")
    return Location(name, "hub")


def _at_url(name: str) -> Location:
    """What a URL means: a file of rows; or, where a store can list, what is in a folder or matches a pattern."""
    kind = FORMATS.get(PurePosixPath(name).suffix)
    if name.startswith(_UNLISTED):
        return Location(name, "hub") if kind is None else Location(name, kind, (name,))
    if kind is not None and not is_pattern(name):
        return _stored(name, kind, [name])
    place = RemotePath(name)
    found = [url for url in place.find() if not _is_hidden(url.removeprefix(place.url))]
    found.sort(key=lambda url: url.replace("/", "\0"))  # folder by folder, as on this machine
    if not found:
        raise ValueError(f"{name}: no file there")
    kinds = {kind for url in found if (kind := FORMATS.get(PurePosixPath(url).suffix))}
    if len(kinds) > 1:
        raise ValueError(f"{name}: has both parquet files and tar shards; say which: {name.rstrip('/')}/*.parquet")
    if not kinds:
        return Location(name, "pictures", tuple(found))
    kind = kinds.pop()
    return _stored(name, kind, [url for url in found if FORMATS.get(PurePosixPath(url).suffix) == kind])


def _stored(name: str, kind: Kind, urls: Sequence[str]) -> Location:
    if kind == "webdataset" and name.startswith(("s3://", "s3a://")):  # datasets 5.2 gives s3fs an option it lacks
        raise ValueError(f"{name}: .tar shards are not streamed from S3: copy them, or keep the rows in parquet files")
    return Location(name, kind, tuple(urls))


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "__")) for part in path.split("/"))


def picture_files(
    location: Location,
    modality: Modality,
    column: str | None = None,
    split: str | None = None,
    column_option: str = "--column",
    *,
    may_be_remote: bool = False,
) -> list[str]:
    """The images or depth maps of a location of the kind "pictures"; URLs of them, if the caller reads such.

    Raises:
        ValueError: if there is none, texts are asked for, or a column or split, which such files do not have.
    """
    if modality == "text":
        raise ValueError(f"{location.name}: texts are read from {_OF_TEXTS}")
    if location.is_remote and not may_be_remote:
        raise ValueError(
            f"{location.name}: pictures at a URL are read by hf-encoders embed alone; copy them to this machine"
        )
    if column or split:
        raise ValueError(f"{location.name}: a folder or file of pictures has no {column_option} or --split")
    if location.listing is not None:
        files = _of_modality(location.name, location.listing, modality)
    elif location.files == (location.name,):
        files = [location.name]  # whatever its suffix, as it was named
    else:
        suffixes = suffixes_of(modality, {Path(file).suffix.lower() for file in location.files})
        files = [file for file in location.files if Path(file).suffix.lower() in suffixes]
        if not files:
            raise ValueError(f"{location.name}: no {NOUNS[modality]} (looked for {', '.join(suffixes)})")
    for file in files:
        try:
            file.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{printable(str(error.object))}: its name is no UTF-8; rename it") from error
    return files


def list_files(paths: Sequence[Path], modality: Modality) -> list[str]:
    """The files among the paths, and below each folder the images or depth maps in alphabetical order.

    Raises:
        ValueError: if a folder holds none.
    """
    files: list[str] = []
    for path in paths:
        files += _of_modality(str(path), list_folder(path), modality) if path.is_dir() else [str(path)]
    return files


def _of_modality(folder: str, listing: Listing, modality: Modality) -> list[str]:
    """The images or depth maps of a folder; what is left out is said. ValueError if it holds none."""
    suffixes = suffixes_of(modality, listing.suffixes())
    files = listing.of_kinds(suffixes)
    if not files:
        looked_for = ", ".join(suffixes)
        raise ValueError(f"{folder}: no {NOUNS[modality]} in this folder (looked for {looked_for})")
    return files


def left_out(location: Location, modality: Modality) -> str:
    """What of a folder is left out, and how much, on one line; empty if nothing is."""
    listing = location.listing
    if listing is None:
        return ""
    of_rows = tuple(suffix for suffix, kind in FORMATS.items() if kind == location.kind)
    read = set(listing.of_kinds(of_rows or suffixes_of(modality, listing.suffixes())))
    return listing.left_out_line(location.name, (file for file in listing.files if file not in read))


def _files_of_rows(name: str, files: Iterable[Path], folder: Path) -> tuple[Kind | None, tuple[str, ...]]:
    """The parquet files or the shards among the files; None and nothing where there are neither."""
    found: dict[Kind, list[Path]] = {}
    for file in files:
        if kind := FORMATS.get(file.suffix):
            found.setdefault(kind, []).append(file)
    if len(found) > 1:
        raise ValueError(f"{name}: has both parquet files and tar shards; say which: {folder / '*.parquet'}")
    for kind, of_kind in found.items():
        return kind, tuple(str(file) for file in sorted(of_kind))
    return None, ()


def _text_kind(files: Sequence[Path]) -> TextKind | None:
    """The kind of text files that all are of; None where there is none, or another file among them."""
    kinds = {TEXT_FORMATS.get(file.suffix.lower()) for file in files}
    return kinds.pop() if len(kinds) == 1 else None


def list_pictures(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the files among the paths, and below each folder the images; where there is none, the depth maps.

    A folder of photos may hold .npy or .npz files of another kind, such as embeddings.

    Raises:
        ValueError: if a folder holds neither.
    """
    for path in paths:
        yield from _pictures(str(path), list_folder(path)) if path.is_dir() else [str(path)]


def pictures_of(location: Location) -> Iterator[str]:
    """Yield the images of a location of the kind "pictures"; where there is none, the depth maps. See `list_pictures`.

    A folder is looked at when the first one is asked for.
    """
    yield from location.files if location.listing is None else _pictures(location.name, location.listing)


def _pictures(folder: str, listing: Listing) -> list[str]:
    found = listing.of_kinds(SUFFIXES["image"]) or listing.of_kinds(SUFFIXES["depth"])
    if not found:
        looked_for = ", ".join(dict.fromkeys([*SUFFIXES["image"], *SUFFIXES["depth"]]))
        raise ValueError(f"{folder}: neither images nor depth maps in this folder (looked for {looked_for})")
    return found
