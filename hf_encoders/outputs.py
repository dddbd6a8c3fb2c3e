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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

MODEL_MANIFEST, INDEX_MANIFEST = "config.json", "embedding_index.json"
# An overwrite deletes the old output, so the output must be of the expected kind.
_KINDS = {MODEL_MANIFEST: "a model", INDEX_MANIFEST: "an index"}
_PARTIAL, _REPLACED = ".partial-", ".replaced-"


@contextmanager
def new_folder(output: Path, overwrite: bool = False, manifest: str = MODEL_MANIFEST) -> Iterator[Path]:
    """Give a folder beside `output` to write into; at the end it takes the name `output`.

    An error leaves nothing. A kill can leave a hidden folder, which the next call for the same output on the same
    machine removes. A kill between the two renames of an overwrite leaves the old output as `.NAME.replaced-...`.

    Args:
        output: where the folder will be.
        overwrite: replace a folder of the same kind.
        manifest: the file by which that kind is known.

    Raises:
        OSError: if the output exists and may not be overwritten, or cannot be written.
    """
    check_folder(output, overwrite, manifest)
    with _writing(output, output.parent) as partial:
        partial.mkdir()
        yield partial
        _open_to_others(partial)
        check_folder(output, overwrite, manifest)  # another process may have written it meanwhile
        put_in_place(partial, output)


@contextmanager
def new_file(output: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a hidden path beside `output` to write one file to; at the end it takes the name `output`.

    Args:
        output: where the file will be.
        overwrite: replace a file that exists.

    Raises:
        OSError: if the output exists and may not be overwritten, or cannot be written.
    """
    check_file(output, overwrite)
    with _writing(output, output.parent) as partial:
        yield partial
        check_file(output, overwrite)  # another process may have written it meanwhile
        partial.replace(output)


@contextmanager
def new_files(folder: Path, manifest: str = MODEL_MANIFEST) -> Iterator[Path]:
    """Give a hidden folder to write files into; at the end they move into `folder`, among the files that it holds.

    The manifest is removed first and moved last: without it the folder is no model, so half of a new one never loads.

    Raises:
        OSError: if the files cannot be written.
    """
    with _writing(folder, folder) as partial:
        partial.mkdir()
        yield partial
        _open_to_others(partial)
        (folder / manifest).unlink(missing_ok=True)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == manifest):
            path.replace(folder / path.name)


def check_folder(output: Path, overwrite: bool, manifest: str = MODEL_MANIFEST) -> None:
    """Refuse an output folder that exists, or that `overwrite` must not delete."""
    if not output.exists() and not output.is_symlink():
        return
    if not overwrite:
        raise FileExistsError(f"{output}: exists already; choose another --output, or give --overwrite")
    if not output.is_dir() or (any(output.iterdir()) and not (output / manifest).is_file()):
        raise FileExistsError(
            f"{output}: not a folder with {_KINDS[manifest]}, so it is not overwritten; choose another --output"
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

    Args:
        parent: where the hidden paths lie.
        pattern: for the names of the outputs, as `glob` takes it.
    """
    for stale in parent.glob(f".{pattern}{_PARTIAL}*"):
        host, _, process = stale.name.rpartition(_PARTIAL)[2].rpartition("-")[0].rpartition("-")
        if host == platform.node() and not _is_alive(process):
            _remove(stale)


def put_in_place(partial: Path, output: Path) -> None:
    """Rename a finished folder to its output; what has that name is set aside first, and removed afterwards."""
    if not output.exists():
        partial.rename(output)
        return
    # No later run clears this name away: a kill before the next line would lose the old output.
    replaced = partial.with_name(partial.name.replace(_PARTIAL, _REPLACED))
    output.rename(replaced)
    try:
        partial.rename(output)
    except BaseException:
        replaced.rename(output)
        raise
    _remove(replaced)


@contextmanager
def _writing(output: Path, parent: Path) -> Iterator[Path]:
    """A hidden path in `parent` that is gone afterwards, whatever happens."""
    partial = partial_path(output, parent)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_stale(parent, glob.escape(output.name))
        yield partial
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_failed_write(error):
            raise
        if isinstance(error, FileExistsError):
            raise OSError(errno.ENOTDIR, f"cannot be written ({error.filename} is no folder)", str(output)) from error
        # The free space is looked up only where the error gives no reason: the parent itself may be missing.
        reason = getattr(error, "strerror", None) or f"{shutil.disk_usage(parent).free / 1e6:.0f} MB are free there"
        raise OSError(errno.EIO, f"cannot be written ({reason})", str(output)) from error
    finally:
        _remove(partial)


def _is_failed_write(error: Exception) -> bool:
    """Whether the operating system refused; the serialisers wrap its errors in their own."""
    if isinstance(error, OSError):
        return error.errno is not None
    message = str(error).lower()
    return any(sign in message for sign in ("i/o", "io error", "os error", "no space", "failed writing"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _open_to_others(folder: Path) -> None:
    """Give the files the modes that the umask asks for: the safetensors writer makes private ones.

    The folder was made with that umask, so its own mode tells it. Asking for the umask would change it for a moment,
    in all threads.
    """
    mode = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _is_alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
