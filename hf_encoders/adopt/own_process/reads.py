"""What the code of a project reads from files and asks of the network, which no repo has; and where errors are."""

import os
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from typing import Any

_CODE = (".py", ".pyc", ".so")
# Where libraries lie, and what they and Python read.
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_SYSTEM = (sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev", "/usr", "/etc")
# A library reads files of its own when it is imported.
_IMPORT = "<frozen importlib"


class Reads:
    """Notices what the code of a project reads and asks; a context manager, which is the time that it is watched.

    Args:
        roots: folders of the code.
        who: what reads, for the message.
        own: folders that it may read.
    """

    def __init__(self, roots: Sequence[str], who: str, own: Sequence[str] = ()):
        self.roots, self.found, self._who = tuple(roots), "", who
        self._own, self._is_watching = tuple(own), False
        sys.addaudithook(self._hear)

    def __enter__(self) -> "Reads":
        self._is_watching = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_watching = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_watching or event not in ("open", "socket.connect", "socket.getaddrinfo"):
            return
        if event == "open":
            path, mode = arguments[0], arguments[1] or ""
            if not isinstance(path, (str, bytes)) or set("wax+") & set(mode):
                return
            name = os.path.abspath(os.fsdecode(path))
            if name.endswith(_CODE) or self._is_free(name) or os.path.isdir(name):
                return
            what = f"reads the file {os.fsdecode(path)}"
        else:
            what = "asks the network for something"
        if not (place := self._place(traceback.extract_stack())):
            return
        self._is_watching = False
        self.found = f"{place}{self._who} {what}, which a repo does not have"
        raise OSError(self.found)

    def _is_free(self, name: str) -> bool:
        """Whether a file is a library's or the system's: a project may lie below /usr too."""
        if name.startswith((*_LIBRARIES, *self._own)):
            return True
        return name.startswith(_SYSTEM) and not name.startswith(self.roots)

    def _place(self, frames: traceback.StackSummary) -> str:
        """The line of the project that reads; empty if none does, or a library that it imports."""
        for frame in reversed(frames):
            if frame.filename.startswith(_IMPORT):
                return ""
            if _is_of(self.roots, frame):
                return f"{frame.filename}:{frame.lineno}: "
        return ""


def said(roots: Sequence[str], error: BaseException) -> str:
    """An error of the project's code, with its last line there, and what to do where a GPU is missing."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    place = next((f"{frame.filename}:{frame.lineno}: " for frame in frames if _is_of(roots, frame)), "")
    text = " ".join(str(error).split())[:300]
    about = "; it needs a GPU" if any(word in text.lower() for word in ("cuda", "nvidia")) else ""
    return f"{place}{type(error).__name__}: {text}{about}"


def _is_of(roots: Sequence[str], frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(tuple(roots)) and not frame.filename.startswith(_LIBRARIES)
