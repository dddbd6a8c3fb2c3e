"""Outputs that appear whole or not at all: written under a hidden name beside their place, then renamed.

The hidden name is `.NAME.partial-HOST-PID-RANDOM`. It says who writes, so that what a killed process left can be told
from what another one is writing, also where several machines share the folder.
"""

import errno
import glob
import os
import platform
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError

MODEL_MANIFEST, INDEX_MANIFEST = "config.json", "embedding_index.json"
# An overwrite deletes the old output, so the output must be of the expected kind.
_KINDS = {MODEL_MANIFEST: "a model", INDEX_MANIFEST: "an index"}
_PARTIAL, _REPLACED = ".partial-", ".replaced-"
# Errors of the system that the room on the disk explains.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What serialisers say of a failed write: safetensors, and PyTorch's writer of zip files.
_SIGNS = (
    "i/o", "io error", "os error", "no space", "failed writing", "file write failed", "unexpected pos",
    "pytorchstreamwriter failed",
)  # fmt: skip


class Elsewhere(Protocol):
    """Where a file is to be that no path of this machine leads to, such as a URL."""

    def exists(self) -> bool:
        """Whether something is there."""

    def writing(self) -> AbstractContextManager[Path]:
        """Give a path of this machine; at the end its file appears there, whole or not at all."""


@contextmanager
def new_folder(output: Path, overwrite: bool = False, manifest: str = MODEL_MANIFEST) -> Iterator[Path]:
    """Give a folder beside `output` to write into; at the end it takes the name `output`.

    An error leaves nothing. A kill can leave a hidden folder, which the next call for the same output on the same
    machine removes. A kill between the two renames of an overwrite leaves the old output as `.NAME.replaced-...`; the
    next call gives it its name back.

    Args:
        output: where the folder will be.
        overwrite: replace a folder of the same kind.
        manifest: the file by which that kind is known.

    Raises:
        OSError: if the output exists and may not be overwritten, or cannot be written.
    """
    remove_stale(output.parent, glob.escape(output.name))  # first: it may give an old output its name back
    check_folder(output, overwrite, manifest)
    with _writing(output, output.parent) as partial:
        partial.mkdir()
        yield partial
        open_to_others(partial)
        check_folder(output, overwrite, manifest)  # another process may have written it meanwhile
        if output.is_dir():  # the person who made it chose its mode
            _set_mode(partial, stat.S_IMODE(output.stat().st_mode))
        put_in_place(partial, output)


@contextmanager
def new_file(output: Path | Elsewhere, overwrite: bool = False) -> Iterator[Path]:
    """Give a hidden path beside `output` to write one file to; at the end it takes the name `output`.

    Args:
        output: where the file will be; of a URL, the path is on this machine, and its file is sent at the end.
        overwrite: replace a file that exists.

    Raises:
        OSError: if the output exists and may not be overwritten, or cannot be written.
    """
    if not isinstance(output, Path):
        if not overwrite and output.exists():
            raise FileExistsError(f"{output}: exists already; choose another name, or give --overwrite")
        with output.writing() as partial:
            yield partial
        return
    check_file(output, overwrite)
    with _writing(output, output.parent) as partial:
        mode = _usual_mode(partial)
        yield partial
        _set_mode(partial, mode)
        check_file(output, overwrite)  # another process may have written it meanwhile
        partial.replace(output)


@contextmanager
def new_files(folder: Path, manifest: str | None = MODEL_MANIFEST) -> Iterator[Path]:
    """Give a hidden folder to write files into; at the end they move into `folder`, among the files that it holds.

    Args:
        folder: it is made if there is none. Files of the same names are replaced.
        manifest: removed first and moved last: without it the folder is no model, so half of a new one never loads.
            None for files that are no model.

    Raises:
        OSError: if the files cannot be written.
    """
    with _writing(folder, folder) as partial:
        partial.mkdir()
        yield partial
        open_to_others(partial)
        if manifest is not None:
            (folder / manifest).unlink(missing_ok=True)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == manifest):
            path.replace(folder / path.name)


def check_folder(output: Path, overwrite: bool, manifest: str = MODEL_MANIFEST, *, option: str = "--output") -> None:
    """Refuse an output folder that exists and is not empty, or that `overwrite` must not delete.

    Args:
        output: the folder.
        overwrite: replace a folder of the same kind.
        manifest: the file by which that kind is known.
        option: what a message calls the output.

    Raises:
        FileExistsError: with what to do.
    """
    if not output.exists() and not output.is_symlink():
        return
    if output.is_dir() and not output.is_symlink() and not any(output.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"{output}: exists already; choose another {option}, or give --overwrite")
    if not output.is_dir() or (any(output.iterdir()) and not (output / manifest).is_file()):
        raise FileExistsError(
            f"{output}: not a folder with {_KINDS[manifest]}, so it is not overwritten; choose another {option}"
        )


def check_file(output: Path, overwrite: bool) -> None:
    """Refuse an output file that exists, or that is a folder."""
    if output.is_dir() or (output.exists() and not overwrite):
        hint = "choose another name" if output.is_dir() else "choose another name, or give --overwrite"
        raise FileExistsError(f"{output}: exists already; {hint}")


def partial_path(output: Path, parent: Path | None = None) -> Path:
    """A new hidden path for an output that this process writes.

    Args:
        output: what will be written.
        parent: where the path lies; beside the output by default.
    """
    writer = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
    return (parent or output.parent) / f".{output.name}{_PARTIAL}{writer}"


def remove_stale(parent: Path, pattern: str) -> None:
    """Remove what killed processes of this machine left: only here is it known whether a process lives.

    An output that a killed process had set aside, and not replaced yet, gets its name back.

    Args:
        parent: where the hidden paths lie.
        pattern: for the names of the outputs, as `glob` takes it.
    """
    for aside, output in _left_aside(parent, pattern):
        if output.exists():
            _remove(aside)
        else:
            aside.rename(output)
    for stale in parent.glob(f".{pattern}{_PARTIAL}*"):
        if _is_left_over(stale, _PARTIAL):
            _remove(stale)


def set_aside(parent: Path, pattern: str) -> dict[Path, Path]:
    """Outputs that are not there, and where each lies: a killed process had set it aside, and not replaced it yet.

    Args:
        parent: where the outputs were.
        pattern: for their names, as `glob` takes it.
    """
    return {output: aside for aside, output in _left_aside(parent, pattern) if not output.exists()}


def _left_aside(parent: Path, pattern: str) -> list[tuple[Path, Path]]:
    """What killed processes of this machine had set aside, and the output that each was."""
    left = [path for path in parent.glob(f".{pattern}{_REPLACED}*") if _is_left_over(path, _REPLACED)]
    return [(path, parent / path.name.rpartition(_REPLACED)[0].removeprefix(".")) for path in left]


def _is_left_over(path: Path, kind: str) -> bool:
    """Whether a process of this machine that is no more made a hidden path."""
    host, _, process = path.name.rpartition(kind)[2].rpartition("-")[0].rpartition("-")
    return host == platform.node() and not _is_alive(process)


def remove_whole(folder: Path) -> None:
    """Remove a folder under a hidden name: a kill leaves no half of it, and the rest is removed as stale."""
    hidden = partial_path(folder)
    folder.rename(hidden)
    _remove(hidden)


def put_in_place(partial: Path, output: Path) -> None:
    """Rename a finished folder to its output; what has that name is set aside first, and removed afterwards."""
    if not output.exists():
        partial.rename(output)
        return
    # A kill before the next line would lose the old output: `remove_stale` gives it its name back.
    replaced = partial.with_name(partial.name.replace(_PARTIAL, _REPLACED))
    output.rename(replaced)
    try:
        partial.rename(output)
    except BaseException:
        replaced.rename(output)
        raise
    _remove(replaced)


@contextmanager
def explained_writes(output: Path, partial: Path) -> Iterator[None]:
    """Say in one line what could not be written and why, whichever library wrote it; then nothing of it is left.

    Args:
        output: what is written, for the message.
        partial: the hidden path that it is written to.

    Raises:
        OSError: in place of the errors of the operating system, of PyTorch and of safetensors about a failed write.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        _remove(partial)
        if not _is_failed_write(error):
            raise
        if isinstance(error, FileExistsError):
            raise OSError(errno.ENOTDIR, f"cannot be written ({error.filename} is no folder)", str(output)) from error
        raise OSError(errno.EIO, f"cannot be written ({_why(error, partial.parent)})", str(output)) from error


def _why(error: Exception, folder: Path) -> str:
    """The system's reason, and the room on the disk where that may be the reason."""
    reason = getattr(error, "strerror", None)
    if reason and getattr(error, "errno", None) not in _FULL:
        return str(reason)
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:.0f} MB are free there"
    except OSError:  # the folder itself is missing
        return str(reason or error)
    return f"{reason}, {free}" if reason else free


@contextmanager
def _writing(output: Path, parent: Path) -> Iterator[Path]:
    """A hidden path in `parent` that is gone afterwards, whatever happens."""
    partial = partial_path(output, parent)
    try:
        with explained_writes(output, partial):
            parent.mkdir(parents=True, exist_ok=True)
            remove_stale(parent, glob.escape(output.name))
            yield partial
    finally:
        _remove(partial)


def _is_failed_write(error: Exception) -> bool:
    """Whether the operating system refused; the serialisers wrap its errors in their own."""
    if isinstance(error, OSError):
        return error.errno is not None
    message = str(error).lower()
    return any(sign in message for sign in _SIGNS)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def open_to_others(folder: Path) -> None:
    """Give the files below a folder the modes that the umask asks for: the safetensors writer makes private ones.

    The folder was made with that umask, so its own mode tells it. Asking for the umask would change it for a moment,
    in all threads.
    """
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            _set_mode(path, mode)


def _usual_mode(path: Path) -> int:
    """The mode that the umask gives to a new file; it is made and removed."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


def _set_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
