"""Fonts for words in any script: Pillow's own, else one of the system that has the letters, else code points."""

import sys
import unicodedata
from collections.abc import Callable, Collection, Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from PIL import ImageFont

from ...models.input_errors import printable

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

_NAMED = 10  # letters in a warning
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
# No letter: every font draws what it lacks in its place, a box more often than not.
_NO_LETTER = "\U0010ffff"
# A font of boxes with the names of scripts, and fonts of formulas, which have symbols in the places of letters.
_NO_WORDS = ("Last Resort", "cmb10", "cmex10", "cmmi10", "cmr10", "cmss10", "cmsy10", "cmtt10", "STIX")
# They choose between two forms of the letter before, or join two letters.
_UNSEEN = str.maketrans("", "", "\ufe0e\ufe0f\u200d")


class Words(NamedTuple):
    """A text on one line that a font can draw.

    Args:
        text: what is drawn.
        font: has all its letters.
        missing: letters that no font here has: the text has their code points in their place, such as [U+6905].
    """

    text: str
    font: Font
    missing: frozenset[str]


def drawable(text: str, size: int) -> Words:
    """Choose a font for a text.

    Args:
        text: any; a file's name may hold bytes that are no text.
        size: of the letters, in pixels.
    """
    text = " ".join(unicodedata.normalize("NFC", text.encode(errors="replace").decode()).translate(_UNSEEN).split())
    own = ImageFont.load_default(size)
    plain = "".join(map(_without_accents, text))  # Pillow's font lacks accents
    if all(_own_has(letter) for letter in plain):
        return Words(plain, own, frozenset())
    letters = frozenset(text) - {" "}
    best, most = None, 0
    for path, has in _system_fonts():
        known = sum(map(has, letters))
        if known > most and all(has(letter) for letter in letters if _own_has(letter)):
            best, most = (path, has), known
        if known == len(letters):
            break
    if best is None:
        missing = frozenset(letter for letter in plain if not _own_has(letter))
        return Words(escaped(plain, missing), own, missing)
    path, has = best
    missing = frozenset(letter for letter in letters if not has(letter))
    return Words(escaped(text, missing), ImageFont.truetype(path, size), missing)


def families(text: str) -> tuple[list[str], frozenset[str]]:
    """Choose fonts for matplotlib, which looks for a letter in one after the other: its own comes first.

    Args:
        text: all letters that are to be drawn.

    Returns:
        The names of the families, and the letters that none of them has: see `escaped`.
    """
    from matplotlib.font_manager import fontManager

    own = "DejaVu Sans"
    names: dict[str, str] = {}
    for font in fontManager.ttflist:
        names.setdefault(font.fname, font.name)  # a file may be listed by several names
    chosen, left = [own], frozenset(text) - {" ", "\n"}
    for path, has in sorted(_system_fonts(), key=lambda font: names.get(font[0]) != own):  # stable
        if path in names and (known := frozenset(filter(has, left))):
            chosen.append(names[path])
            left -= known
    return list(dict.fromkeys(chosen)), left


def escaped(text: str, missing: frozenset[str]) -> str:
    """The text with code points, such as [U+6905], in the place of missing letters."""
    return "".join(f"[U+{ord(letter):04X}]" if letter in missing else letter for letter in text)


def warn_of(missing: Collection[str]) -> None:
    """Write one line to stderr about letters that are drawn as their code points; nothing if there are none."""
    if missing:
        named = " ".join(sorted(missing)[:_NAMED])
        sys.stderr.write(
            f"warning: no font here has {printable(named)}{' ...' if len(missing) > _NAMED else ''}: drawn as code"
            " points such as [U+6905]; install a font that has them, such as Noto Sans CJK or Noto Emoji, and"
            " matplotlib, which finds it\n"
        )


def _without_accents(letter: str) -> str:
    """The letter below an accent where Pillow's font has it, else the letter itself: Korean ones have parts too."""
    parts = unicodedata.normalize("NFKD", letter)
    base = "".join(part for part in parts if not unicodedata.combining(part))
    return base if base and all(map(_own_has, base)) else letter


@cache
def _own_has(letter: str) -> bool:
    """Whether Pillow's font has a letter: it tells by drawing it."""
    font = ImageFont.load_default(14)
    try:
        drawn, lacking = font.getmask(letter), font.getmask(_NO_LETTER)
    except UnicodeError:  # Pillow without FreeType has Latin letters alone
        return False
    return letter == " " or (drawn.size, bytes(drawn)) != (lacking.size, bytes(lacking))


def _system_fonts() -> Iterator[tuple[str, Callable[[str], bool]]]:
    """The files of the system's fonts, and which letters each has; none without matplotlib."""
    for path in _font_files():
        if has := _letters_of(path):
            yield path, has


@cache
def _font_files() -> list[str]:
    """Upright fonts of the usual weight come first."""
    try:
        from matplotlib.font_manager import fontManager
    except ImportError:
        return []

    def order(font: "FontEntry") -> tuple[bool, bool, str]:
        return font.style != "normal", font.weight not in (400, "normal", "regular"), font.fname

    return [font.fname for font in sorted(fontManager.ttflist, key=order) if not font.name.startswith(_NO_WORDS)]


@cache
def _letters_of(path: str) -> Callable[[str], bool] | None:
    """Which letters a font has; None for a font that cannot be opened or is not drawn at any size."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        ImageFont.truetype(path, 14)
        letters = frozenset(font.get_charmap())
    except (OSError, RuntimeError, ValueError):
        return None
    return lambda letter: ord(letter) in letters
