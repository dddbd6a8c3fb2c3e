"""Outputs that appear whole or not at all: written under a hidden name beside their place, then renamed."""

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

MODEL_MANIFEST, INDEX_MANIFEST = "config.json", "embedding_index.json"
# An overwrite deletes what is there: it must be what it is taken for.
_KINDS = {MODEL_MANIFEST: "a model", INDEX_MANIFEST: "an index"}


@contextmanager
def new_folder(output: Path, overwrite: bool = False, manifest: str = MODEL_MANIFEST) -> Iterator[Path]:
    """Give a folder beside `output` to write into; at the end it takes the name `output`.

    After an error nothing is left. After a kill only a hidden folder `.NAME.partial-...` can be left, which the next
    call for the same output removes; a kill between the two renames of an overwrite leaves the old output as
    `.NAME.replaced-...`.

    Args:
        output: where the folder will be.
        overwrite: replace a folder of the same kind.
        manifest: the file by which that kind is known.

    Raises:
        OSError: if the output exists and may not be overwritten, or cannot be written.
    """
    check_folder(output, overwrite, manifest)
    with _partial(output) as partial:
        partial.mkdir()
        yield partial
        _open_to_others(partial)
        check_folder(output, overwrite, manifest)  # another process may have written it meanwhile
        if output.exists():
            # Under a name that no later run clears away: a kill before the next line would lose the old output.
            replaced = partial.with_name(partial.name.replace(".partial-", ".replaced-"))
            output.rename(replaced)
            try:
                partial.rename(output)
            except BaseException:
                replaced.rename(output)
                raise
            _remove(replaced)
        else:
            partial.rename(output)


@contextmanager
def new_file(output: Path, overwrite: bool = False) -> Iterator[Path]:
    """The same for one file."""
    check_file(output, overwrite)
    with _partial(output) as partial:
        yield partial
        check_file(output, overwrite)  # another process may have written it meanwhile
        partial.replace(output)


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


@contextmanager
def _partial(output: Path) -> Iterator[Path]:
    """A hidden path beside the output that is gone afterwards, whatever happens; those of killed processes go first."""
    prefix = f".{output.name}.partial-"
    partial = Path(tempfile.mktemp(prefix=f"{prefix}{os.getpid()}-", dir=output.parent))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for stale in output.parent.glob(f"{glob.escape(prefix)}*"):
            if not _is_alive(stale.name.removeprefix(prefix).partition("-")[0]):
                _remove(stale)
        yield partial
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_failed_write(error):
            raise
        if isinstance(error, FileExistsError):
            raise OSError(errno.ENOTDIR, f"cannot be written ({error.filename} is no folder)", str(output)) from error
        # Asked for only where the error does not say why: the parent may be what cannot be made.
        reason = (
            getattr(error, "strerror", None) or f"{shutil.disk_usage(output.parent).free / 1e6:.0f} MB are free there"
        )
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
    """Give the files the modes that the umask asks for: the safetensors writer makes private ones."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~umask)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
