"""What the pictures of matplotlib share: colours, fonts that have the letters, and how they are saved."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

from ...models.input_errors import printable
from .fonts import escaped, families, warn_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FADED, GRID = "#1f2328", "#636c76", "#eaeef2"
DPI = 120
# Inches: around everything, and of a line of the heading.
MARGIN, LINE = 0.2, 0.24


def need_matplotlib(what: str) -> None:
    """Refuse a picture where matplotlib is not installed.

    Args:
        what: the picture.

    Raises:
        ValueError: says what to install.
    """
    if find_spec("matplotlib") is None:
        raise ValueError(f"a picture of {what} needs matplotlib: pip install 'hf-encoders[evaluation]'")


class Letters:
    """The fonts of a picture's words. Letters that none of them has are written as code points, with a warning.

    Args:
        words: all that is written.
    """

    def __init__(self, words: Sequence[str]):
        self.family, self._missing = families(printable("".join(words)))
        warn_of(self._missing)

    def written(self, text: str) -> str:
        """A text as it is drawn."""
        return escaped(printable(text), self._missing)


def width_of(text: str) -> int:
    """The width of a text in letters, of which Chinese ones are twice as wide as others."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def wrapped(lines: Sequence[str], width: float) -> list[str]:
    """Small lines of a heading, as they fit into a width in inches."""
    return [part for line in lines for part in wrap(line, int((width - 2 * MARGIN) / 0.08))]


def write_heading(figure: "Figure", title: str, lines: Sequence[str]) -> None:
    """Write a title and smaller lines below it at the top of a figure."""
    width, height = figure.get_size_inches()
    for text, down, size, ink in ((title, MARGIN, 13, INK), ("\n".join(lines), MARGIN + 1.3 * LINE, 9, FADED)):
        figure.text(MARGIN / width, 1 - down / height, text, fontsize=size, va="top", color=ink, linespacing=1.5)


def save(figure: "Figure", output: Path, family: Sequence[str]) -> None:
    """Save a figure as PNG, with its words in fonts of a family."""
    from matplotlib.text import Text

    for artist in figure.findobj(Text):
        if isinstance(artist, Text):
            artist.set_parse_math(False)  # "$" is a letter like any other
            artist.set_fontfamily(family)
    figure.savefig(output, dpi=DPI, format="png", facecolor="white")
