"""What a name means: a file or folder on this machine, or an id on the Hub. It imports nothing heavy."""

import os
import re
from collections.abc import Collection

from .models.input_errors import InputError

# A name that ends so is a file's, and no id's: of weights, tokenizers and settings.
FILES = (
    ".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".pkl", ".pickle", ".npz", ".npy", ".tar", ".zip", ".gz", ".h5",
    ".onnx", ".xml", ".json", ".jsonl", ".yaml", ".yml", ".txt", ".model",
)  # fmt: skip
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def exists(name: str | os.PathLike[str]) -> bool:
    """Whether a file or folder has the name; also where it may not be looked at, of which its reader says more."""
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):  # such as a folder that may not be entered, or a name too long
        pass
    return True


def is_path(name: str, files: Collection[str] = FILES) -> bool:
    """Whether a name, by its looks, is that of a file or folder on this machine and cannot be an id on the Hub.

    Args:
        name: such as ./model, ~/model, model.pth or org/model.
        files: the suffixes that no id has, in small letters.
    """
    return has_suffix(name, files) or not _HUB_ID.fullmatch(name)


def has_suffix(name: str, suffixes: Collection[str]) -> bool:
    """Whether a name ends with one of the suffixes, in letters of any size."""
    return os.path.splitext(name)[1].lower() in suffixes


def check_exists(name: str | os.PathLike[str], files: Collection[str] = FILES) -> None:
    """Refuse a path where nothing is.

    Raises:
        InputError: in the words that the readers of files use.
    """
    if not exists(name):
        noun = "file" if has_suffix(os.fspath(name), files) else "file or folder"
        raise InputError(path=name, reason=f"no such {noun}")


def check_path_or_id(name: str) -> None:
    """Refuse a name that looks like a path where nothing is. An id on the Hub is not looked up.

    Raises:
        InputError: if there is no such file or folder.
    """
    if is_path(name):
        check_exists(name)
