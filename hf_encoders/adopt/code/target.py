"""What a person names: `net.py:Encoder`, or `net.py:Lit.encoder` for the part of a class."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import AdoptError

_FORM = "expected FILE.py:Class, or FILE.py:Class.attribute"


@dataclass(frozen=True)
class Target:
    """A class in a file, or what an object of it holds.

    Args:
        file: the Python file.
        name: of the class.
        attributes: the way from an object of the class to the network; empty for the object itself.
    """

    file: Path
    name: str
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{'.'.join((self.name, *self.attributes))}"


def parse_target(text: str) -> Target:
    """Read what a person names.

    Raises:
        AdoptError: if it has another form, or there is no such file.
    """
    file, colon, names = text.rpartition(":")
    parts = names.split(".")
    if not colon or not file.endswith(".py") or not all(part.isidentifier() for part in parts):
        raise AdoptError(path=text, reason=_FORM)
    path = Path(file)
    if not path.is_file():
        raise AdoptError(path=file, reason="no such file")
    return Target(path, parts[0], tuple(parts[1:]))
