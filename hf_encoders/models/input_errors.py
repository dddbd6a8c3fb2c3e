"""Errors about what people hand over: one line that every terminal and log can take, whatever a file is called."""


class InputError(ValueError):
    """An input that cannot be used; the message is one printable line."""

    def __init__(self, message: str):
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Escape what cannot be printed: file names that are no UTF-8 (lone surrogates), line breaks, control codes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def reason(error: Exception) -> str:
    """The first line of what a decoder or the system says."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
