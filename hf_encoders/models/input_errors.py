"""Errors about inputs: one printable line, even if a file's name is not printable."""

from typing import TypeGuard

# What to do with bytes that are meant as the content of a file and do not look like it.
CONTENT_HINT = "for the content of a file pass {'bytes': content}, or PIL.Image.open(io.BytesIO(content))"


OPEN_FILE_HINT = "pass the path of an open file, or the bytes that its read() gives"


class InputError(ValueError):
    """An input that cannot be used; the message is one printable line.

    The message is given, or built from its parts: "NAME: REASON; HINT". Callers read the parts, never the message.

    Args:
        message: the whole message; without it, the parts make it.
        index: the input's position among those that were given.
        path: the input's file or folder.
        name: what the message calls the input; by default the path, else the position.
        reason: what is wrong; the whole message by default.
        hint: what to do about it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        index: int | None = None,
        path: object = None,
        name: str = "",
        reason: str = "",
        hint: str = "",
    ):
        self.index, self.path, self.hint = index, None if path is None else str(path), hint
        self.reason = reason or message
        self.name = name or self.path or ("" if index is None else f"item {index}")
        parts = f"{self.name}: {reason}" if self.name else reason
        super().__init__(printable(message or (f"{parts}; {hint}" if hint else parts)))

    def without_position(self) -> str:
        """The message for a caller who names the input better than by its position; a path stays."""
        if self.index is None or self.path is not None:
            return str(self)
        return printable(f"{self.reason}; {self.hint}" if self.hint else self.reason)


class InputTypeError(InputError, TypeError):
    """An input of a type that is not taken."""


def printable(text: str) -> str:
    """Escape what cannot be printed: file names that are not UTF-8 (lone surrogates), line breaks, control codes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def reason(error: Exception) -> str:
    """The first line of a message of a decoder or of the system."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def one_line(error: BaseException) -> str:
    """An error's message on one line; the name of its class if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def is_content(item: object) -> TypeGuard[bytes]:
    """Whether bytes that are given as an input are the content of a file: they hold a zero, which no path does.

    Pictures and arrays nearly always hold one; those that do not are passed as `{"bytes": ...}`.
    """
    return isinstance(item, bytes) and b"\0" in item
