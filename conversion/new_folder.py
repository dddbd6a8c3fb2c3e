"""A folder that appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(output: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder beside `output` to write into; at the end it takes the name `output`.

    After an error nothing is left. After a kill only a hidden folder `.NAME.partial-...` can be left, which the next
    call for the same output removes.

    Raises:
        FileExistsError: if the output exists and may not be overwritten, or is a folder that holds no model.
    """
    check_output(output, overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{output.name}.partial-"
    for stale in output.parent.glob(f"{prefix}*"):
        if not _is_alive(stale.name.removeprefix(prefix).partition("-")[0]):
            shutil.rmtree(stale, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=output.parent))
    try:
        yield partial
        _open_to_others(partial)
        if output.exists():
            replaced = partial.with_name(f"{partial.name}-replaced")
            output.rename(replaced)
            partial.rename(output)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse an output that exists, or that `overwrite` must not delete."""
    if not output.exists() and not output.is_symlink():
        return
    if not overwrite:
        raise FileExistsError(f"{output}: exists already; choose another --output, or give --overwrite")
    if not output.is_dir() or (any(output.iterdir()) and not (output / "config.json").is_file()):
        raise FileExistsError(f"{output}: not a folder with a model, so it is not overwritten; choose another --output")


def _open_to_others(folder: Path) -> None:
    """Give a private folder and its files the modes that the umask asks for."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for path in folder.iterdir():
        path.chmod(0o666 & ~umask)


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
