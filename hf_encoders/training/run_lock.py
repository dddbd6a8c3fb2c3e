"""One run at a time in an output folder: a lock that ends with its process, however that ends."""

import errno
import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no such locks, and goes on without
    fcntl = None  # type: ignore[assignment]

NAME = "run.lock"
_PAUSE = 0.5  # seconds
_HELD = (errno.EACCES, errno.EAGAIN)


class RunLock:
    """The lock of the run that writes into a folder; the main process of the run takes it.

    It is a record lock (`fcntl.lockf`): the system ends it with the process, worker processes do not inherit it, and
    network file systems know it. Where a file system has no locks, nothing is locked.

    `content` is what the file holds: who has the lock, and since when.

    Args:
        folder: of the run's checkpoints; it is made.

    Raises:
        ValueError: if another process holds the lock: the message says which.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / NAME
        self._file = path.open("a+", encoding="utf-8")
        if fcntl is not None:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _HELD:
                    holder = _holder(self._file)
                    self._file.close()
                    raise ValueError(
                        f"{folder.parent}: {holder} trains here; wait for its end, stop it, or choose another"
                        " --output_dir"
                    ) from None
        self._file.truncate(0)
        self.content = json.dumps(
            {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        )
        self._file.write(self.content)
        self._file.flush()
        os.fsync(self._file.fileno())  # other machines look for it


def wait_for_lock(folder: Path, content: str, seconds: float) -> bool:
    """Whether this process sees the lock that another one took; a network file system may show it after a while.

    Args:
        folder: of the run's checkpoints.
        content: of the lock, see `RunLock`.
        seconds: how long to wait.
    """
    end = time.monotonic() + seconds
    while True:
        with suppress(OSError):
            if (folder / NAME).read_text(encoding="utf-8") == content:
                return True
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE)


def _holder(file: IO[str]) -> str:
    """The process that holds a lock, in words."""
    file.seek(0)
    try:
        content = json.loads(file.read())
        return f"process {content['pid']} on {content['host']}, since {content['since']},"
    except (ValueError, KeyError, TypeError):  # it is about to say who it is
        return "another process"
