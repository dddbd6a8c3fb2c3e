"""What a name means: a file or folder on this machine, or an id on the Hub. Its import imports nothing heavy."""

import os
import re
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Literal

from .models.input_errors import InputError

RepoKind = Literal["model", "dataset"]

# A name that ends so is a file's, and no id's: of weights, tokenizers and settings.
FILES = (
    ".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".pkl", ".pickle", ".npz", ".npy", ".tar", ".zip", ".gz", ".h5",
    ".onnx", ".xml", ".json", ".jsonl", ".yaml", ".yml", ".txt", ".model",
)  # fmt: skip
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_ALIKE = 0.7  # of 1: how near a name must be
_MOST_ENTRIES = 10_000  # of a folder that are looked at
# What the Hub was asked for, and has: nobody asks twice.
_FOUND: set[tuple[str, RepoKind]] = set()


class NoSuchPlaceError(InputError, OSError):
    """A name that is neither here nor on the Hub; an OSError as well, as `from_pretrained` raises."""


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
        raise InputError(path=name, reason=f"no such {noun}", hint=near_names(name))


def check_path_or_id(name: str) -> None:
    """Refuse a name that looks like a path where nothing is. An id on the Hub is not looked up: see `check_on_hub`.

    Raises:
        InputError: if there is no such file or folder.
    """
    if is_path(name):
        check_exists(name)


def check_on_hub(name: str, kind: RepoKind = "model") -> None:
    """Refuse an id that the Hub does not have, or cannot be asked for, by one question and no second try.

    The libraries ask for each file many times, with pauses. What they have in their caches is left to them, and so is
    whatever else the Hub answers: it may be busy, or want a token.

    Args:
        name: of a file or folder, of which nothing is asked, or an id.
        kind: of the repo.

    Raises:
        NoSuchPlaceError: if it is neither here nor on the Hub, or nobody can know.
    """
    if exists(name) or "://" in name or (name, kind) in _FOUND or _is_cached(name, kind):
        return
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    here, noun = "no such file or folder here", "data set" if kind == "dataset" else kind
    answer = None if _is_offline(kind) else _ask_hub(name, kind, float(constants.HF_HUB_ETAG_TIMEOUT))
    if _is_offline(kind):
        reason = f"{here}, and no {noun} in the cache of the Hub, which is all that HF_HUB_OFFLINE allows"
    elif isinstance(answer, HFValidationError):
        reason = "no such file or folder"
    elif isinstance(answer, RepositoryNotFoundError) and not isinstance(answer, GatedRepoError):
        reason = f"{here}, and no such {noun} on the Hub, or none that you may see"
    elif _no_connection(answer):
        reason = f"{here}, and the Hub could not be reached ({' '.join(str(answer).split()).rstrip('.')})"
    else:
        _FOUND.add((name, kind))
        return
    refused = answer if isinstance(answer, RepositoryNotFoundError) else None  # commands tell by it whether to log in
    raise NoSuchPlaceError(path=name, reason=reason, hint=near_names(name)) from refused


def check_places(*given: object) -> None:
    """Refuse the names of models among the values that are neither here nor on the Hub: see `check_on_hub`.

    Raises:
        InputError: for the first one.
    """
    for one in given:
        if isinstance(one, (str, os.PathLike)):
            check_path_or_id(os.fspath(one))
            check_on_hub(os.fspath(one))


def near_names(name: str | os.PathLike[str]) -> str:
    """Names like this one that are there, as a question; empty if there is none."""
    return did_you_mean(path if os.path.dirname(path) else os.path.join(".", path) for path in _near(os.fspath(name)))


def did_you_mean(names: Iterable[str]) -> str:
    """A question about names; empty if there is none."""
    near = " or ".join(names)
    return f"did you mean {near}?" if near else ""


def _near(path: str) -> list[str]:
    from difflib import get_close_matches  # here: only who errs waits for it

    folder, base = os.path.split(path.rstrip(os.sep))
    if not base:
        return []
    found: list[str] = []
    wanted, suffix = os.path.splitext(base.lower())
    for place in [folder] if not folder or os.path.isdir(folder) else _near(folder):
        try:
            with os.scandir(place or os.curdir) as entries:
                names = [entry.name for entry in islice(entries, _MOST_ENTRIES)]
        except OSError:
            continue
        stems: dict[str, list[str]] = {}  # all files of a kind have the same suffix, which makes none like another
        for name in sorted(names, key=lambda name: (not name.lower().endswith(suffix), name)):
            if not name.startswith(".") or base.startswith("."):
                stems.setdefault(os.path.splitext(name.lower())[0], []).append(name)
        for stem in get_close_matches(wanted, stems, 3, _ALIKE):
            found += [os.path.join(place, name) for name in stems[stem]]
    return found[:3]


def _is_offline(kind: RepoKind) -> bool:
    from huggingface_hub import constants

    own = os.environ.get("HF_DATASETS_OFFLINE") if kind == "dataset" else None
    return bool(constants.HF_HUB_OFFLINE) if own is None else own.upper() in constants.ENV_VARS_TRUE_VALUES


def _is_cached(name: str, kind: RepoKind) -> bool:
    """Whether the libraries have something of a repo, which they read where the Hub is out of reach."""
    from huggingface_hub import constants

    snapshots = os.path.join(constants.HF_HUB_CACHE, "--".join([f"{kind}s", *name.split("/")]), "snapshots")
    if os.path.isdir(snapshots) and os.listdir(snapshots):
        return True
    if kind == "model":
        return False
    prepared = os.environ.get("HF_DATASETS_CACHE") or os.path.join(constants.HF_HOME, "datasets")
    # `datasets` writes ORG/MyData as ORG___my_data.
    squeezed = re.sub("[/_]", "", name).lower()
    return os.path.isdir(prepared) and squeezed in {one.replace("_", "").lower() for one in os.listdir(prepared)}


def _ask_hub(name: str, kind: RepoKind, seconds: float) -> Exception | None:
    """Ask the Hub for a repo; returns the error. It takes no longer than that, also where a name is not resolved."""
    from threading import Thread

    from huggingface_hub import HfApi

    answers: list[Exception | None] = []

    def ask() -> None:
        try:
            HfApi().repo_info(name, repo_type=kind, timeout=seconds / 2, expand="sha")
        except Exception as error:  # whatever the libraries of the network raise
            answers.append(error)
        else:
            answers.append(None)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else TimeoutError(f"no answer within {seconds:g} s")


def _no_connection(answer: Exception | None) -> bool:
    """Whether there was no connection; one that breaks, is slow or busy is left to the libraries and their patience."""
    return isinstance(answer, TimeoutError) or type(answer).__name__ in ("ConnectError", "ConnectTimeout", "ProxyError")
