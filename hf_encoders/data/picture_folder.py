"""Local folders of pictures with their splits, labels and captions, as `datasets` reads them: `builder_of`."""

import os

from datasets import DatasetBuilder, load_dataset_builder
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from .location import Location, left_out
from .names import SUFFIXES, TEXT_FORMATS

_METADATA = {f"metadata{suffix}" for suffix in (*TEXT_FORMATS, ".parquet")}


class PictureFolder(ImageFolder):
    """The `imagefolder` of `datasets`, which leaves out .avif and .heic files in silence."""

    EXTENSIONS = sorted({*ImageFolder.EXTENSIONS, *SUFFIXES["image"]})


def builder_of(location: Location) -> DatasetBuilder:
    """What builds the splits of a location, which `datasets` finds by names.

    Raises:
        Exception: datasets raises what it likes.
    """
    if not _suffixes(location) & (set(PictureFolder.EXTENSIONS) - set(ImageFolder.EXTENSIONS)):
        return load_dataset_builder(**location.loader)
    options = {"data_dir": location.name} if location.is_folder else {"data_files": list(location.files)}
    found = load_dataset_builder("imagefolder", **options)
    return PictureFolder(dataset_name="picturefolder", data_files=found.config.data_files, hash=found.hash)


def left_out_of_splits(location: Location, builder: DatasetBuilder) -> str:
    """What of a folder is in none of its splits, on one line; empty if nothing is. See `left_out`.

    Args:
        location: the folder.
        builder: what builds its splits.
    """
    if location.listing is None or location.kind != "pictures":
        return left_out(location, "image")
    built = {os.path.abspath(file) for files in (builder.config.data_files or {}).values() for file in files}
    if isinstance(builder, ImageFolder):
        suffixes = PictureFolder.EXTENSIONS if isinstance(builder, PictureFolder) else ImageFolder.EXTENSIONS
        built = {file for file in built if _suffix(file) in suffixes or os.path.basename(file) in _METADATA}
    others = [file for file in location.listing.files if os.path.abspath(file) not in built]
    return location.listing.left_out_line(location.name, others)


def _suffixes(location: Location) -> set[str]:
    if location.kind != "pictures":
        return set()
    return set(map(_suffix, location.files if location.listing is None else location.listing.files))


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()
