"""How the files of a data set are called, and whether a name can be one of them. It imports nothing heavy."""

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal

from ..models.input_errors import InputError
from ..places import check_exists, exists, has_suffix, is_path

if TYPE_CHECKING:
    from ..models.tower import Modality

# What `datasets` calls files of rows that are text.
TextKind = Literal["json", "csv", "text"]
Kind = Literal["pictures", "parquet", "webdataset", "hub", TextKind]

# fmt: off
SUFFIXES: Mapping["Modality", tuple[str, ...]] = {
    "image": (
        ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jp2",
        ".avif", ".heic", ".heif",
    ),
    "depth": (
        ".png", ".tif", ".tiff", ".npy", ".npz", ".pt", ".pgm", ".jp2", ".pfm", ".exr", ".h5", ".hdf5", ".mat",
    ),
}
# fmt: on
TEXT_FORMATS: Mapping[str, TextKind] = {".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}
FORMATS: Mapping[str, Kind] = {".parquet": "parquet", ".tar": "webdataset"}
FILES = frozenset([*FORMATS, *TEXT_FORMATS, *SUFFIXES["image"], *SUFFIXES["depth"]])


def suffixes_of(modality: "Modality", present: Collection[str]) -> tuple[str, ...]:
    """The suffixes of the images or the depth maps of a folder.

    Depth maps may be pictures of any kind, such as .jpg, .webp and .bmp; beside maps of the usual kinds, those are
    photos of the same scenes.

    Args:
        modality: "image" or "depth".
        present: the suffixes of all files of the folder.
    """
    suffixes = SUFFIXES[modality]
    return suffixes if set(suffixes) & set(present) else tuple(dict.fromkeys([*suffixes, *SUFFIXES["image"]]))


def is_url(name: str) -> bool:
    """Whether a name is a URL."""
    return "://" in name


def is_lance(name: object) -> bool:
    """Whether a path or URL is that of a Lance table, by its suffix."""
    return str(name).rstrip("/").endswith(".lance")


def is_pattern(name: str) -> bool:
    """Whether a name that no file has stands for several files, such as `maps/*.parquet`."""
    return any(sign in name for sign in "*?[")


def check_data_name(name: str) -> None:
    """Refuse the name of a data set that is not there. URLs and ids on the Hub are not looked up.

    Args:
        name: as `locate` takes it.

    Raises:
        InputError: if no file has the name, and it cannot be an id.
    """
    if is_url(name) or exists(name):
        return
    if is_pattern(name):
        from glob import iglob  # an argument that is none need not wait for it

        if not any(map(os.path.isfile, iglob(name, recursive=True))):
            raise InputError(path=name, reason="no such file")
        return
    folder = os.path.dirname(name)
    # "samples/nothing" is a missing folder where there is a folder "samples", and a Hub id otherwise.
    if is_path(name, FILES) or (folder and exists(folder)):
        check_exists(name, FILES)


def is_picture(name: str) -> bool:
    """Whether a name ends like that of an image or a depth map."""
    return any(has_suffix(name, suffixes) for suffixes in SUFFIXES.values())


def split_names(text: str, option: str) -> list[str]:
    """The splits that an option names: one, or several with commas between them.

    Raises:
        ValueError: if it names one twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(set(names)) < len(names):
        raise ValueError(f"{option} {text}: names a split twice")
    return names
