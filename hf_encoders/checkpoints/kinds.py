"""Says what a file is that is no checkpoint, and what to do about it."""

import re
from pathlib import Path

from .mapped_file import FileBytes

HEAD = 4096
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
# Pickles of protocols 0 and 1 begin with a container or a class.
OLD_PICKLE = re.compile(rb"[(\]}c]")


def name_kind(file: FileBytes, path: Path) -> str:
    """What a file is, in words, with what to do: the part of an error after the file's name."""
    head = file.read(0, HEAD)
    text = _text(head, file.size)
    if text is None:
        return "not a PyTorch checkpoint (neither a zip archive nor a pickle)"
    kind = "JSON" if re.match(r'\s*(\{\s*["}]|\[\s*[\[{"\d-])', text) else "text"
    return f"a {kind} file, not a PyTorch checkpoint"


def _text(head: bytes, size: int) -> str | None:
    """The first letters of a text file, or None for another."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        cut = size > len(head) and error.start > len(head) - 4  # the letter goes on after what was read
        if not cut:
            return None
        text = head[: error.start].decode("utf-8")
    return None if "\0" in text else text
