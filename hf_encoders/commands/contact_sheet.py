"""Draws results as one picture: thumbnails with a few words each, under the query that found them."""

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace

import PIL.Image
from PIL import ImageDraw

from ..models.image_files import read_image
from .figures.depth_colours import DepthColours
from .figures.fonts import Font, drawable, warn_of

MAX_TILES = 500
_MOST_LINES = 20  # that a text of a section is broken into
TILE_LINES = 2  # below the heading of a tile, by default
_THUMBNAIL, _GAP, _MARGIN = 192, 16, 24
_TITLE_SIZE, _TEXT_SIZE, _CORNER_SIZE, _LINE_HEIGHT = 20, 14, 12, 20
_PAPER, _CARD, _INK, _FADED, _ACCENT, _RIGHT = "#ffffff", "#f1f3f5", "#1f2328", "#636c76", "#0969da", "#1a7f37"


@dataclass(frozen=True)
class Tile:
    """One thumbnail.

    Args:
        picture: a path, a PIL image, or another input of `read_image` or `read_depth`.
        modality: "image" or "depth".
        heading: the line below it.
        lines: the lines below the heading; a line that is too long is cut.
        is_query: draw a blue frame, to tell it from the results.
        is_right: draw a green frame: it is what the query is meant to find.
    """

    picture: object
    modality: str
    heading: str
    lines: Sequence[str] = ()
    is_query: bool = False
    is_right: bool = False

    @property
    def frame(self) -> str | None:
        """The colour of its frame and heading; None without one."""
        return _ACCENT if self.is_query else _RIGHT if self.is_right else None


@dataclass(frozen=True)
class Section:
    """A part of a sheet.

    Args:
        title: in large letters; none if empty. A title that is too long is cut.
        tiles: its pictures.
        lines: smaller text between title and tiles; a line that is too long is broken.
    """

    title: str
    tiles: Sequence[Tile]
    lines: Sequence[str] = ()


def draw(
    sections: Sequence[Section], columns: int = 6, tile_lines: int = TILE_LINES, depth: DepthColours | None = None
) -> PIL.Image.Image:
    """Draw the sections below each other.

    Args:
        sections: at most `MAX_TILES` tiles in all.
        columns: at most this many tiles stand side by side.
        tile_lines: each tile has room for so many lines below its heading.
        depth: how depth maps are drawn; by default, without their metres.

    Returns:
        An RGB image.

    Raises:
        ValueError: if there are more tiles.
    """
    check_size(sum(len(section.tiles) for section in sections))
    columns = max(1, min(columns, max((len(section.tiles) for section in sections), default=1)))
    width = 2 * _MARGIN + columns * (_THUMBNAIL + _GAP) - _GAP
    sections = [replace(section, lines=_broken(section.lines, width - 2 * _MARGIN)) for section in sections]
    sheet = PIL.Image.new("RGB", (width, 2 * _MARGIN + sum(_height(s, columns, tile_lines) for s in sections)), _PAPER)
    top = _MARGIN
    missing: set[str] = set()
    for section in sections:
        missing |= _draw_section(sheet, section, top, columns, tile_lines, depth or DepthColours())
        top += _height(section, columns, tile_lines)
    warn_of(missing)
    return sheet


def check_size(tiles: int) -> None:
    """Refuse a sheet of too many tiles."""
    if tiles > MAX_TILES:
        raise ValueError(f"{tiles} pictures, a contact sheet holds {MAX_TILES} at most; write .jsonl instead")


def _height(section: Section, columns: int, tile_lines: int) -> int:
    lines = -(-len(section.tiles) // columns)
    return (
        (_TITLE_SIZE + _GAP if section.title else 0)
        + _lines_height(section)
        + lines * (_tile_height(tile_lines) + _GAP)
    )


def _tile_height(lines: int) -> int:
    return _THUMBNAIL + 8 + (1 + lines) * _LINE_HEIGHT


def _lines_height(section: Section) -> int:
    gap = _GAP // 2 if section.tiles else _GAP
    return len(section.lines) * _LINE_HEIGHT + gap if section.lines else 0


def _broken(lines: Sequence[str], width: int) -> list[str]:
    """Lines of at most `width` pixels, with the words of the given ones."""
    return [part for line in lines for part in wrap(line, _MOST_LINES, width) or [""]]


def _draw_section(
    sheet: PIL.Image.Image, section: Section, top: int, columns: int, tile_lines: int, depth: DepthColours
) -> set[str]:
    """Draw a section; returns the letters that no font has."""
    pen = ImageDraw.Draw(sheet)
    missing: set[str] = set()
    if section.title:
        missing |= _write(pen, (_MARGIN, top), section.title, _TITLE_SIZE, sheet.width - 2 * _MARGIN, _INK)
        top += _TITLE_SIZE + _GAP
    for number, text in enumerate(section.lines):
        place = _MARGIN, top + number * _LINE_HEIGHT
        missing |= _write(pen, place, text, _TEXT_SIZE, sheet.width - 2 * _MARGIN, _FADED)
    top += _lines_height(section)
    for number, tile in enumerate(section.tiles):
        line, column = divmod(number, columns)
        left = _MARGIN + column * (_THUMBNAIL + _GAP)
        place = left, top + line * (_tile_height(tile_lines) + _GAP)
        missing |= _draw_tile(sheet, tile, place, tile_lines, depth)
    return missing


def _draw_tile(
    sheet: PIL.Image.Image, tile: Tile, place: tuple[int, int], tile_lines: int, depth: DepthColours
) -> set[str]:
    """Draw a tile; returns the letters that no font has."""
    pen = ImageDraw.Draw(sheet)
    left, top = place
    pen.rectangle((left, top, left + _THUMBNAIL - 1, top + _THUMBNAIL - 1), _CARD)
    if tile.modality == "depth":
        picture, corner = depth.draw(tile.picture)
    else:
        picture, corner = read_image(tile.picture, tile.heading).convert("RGB"), ""
    thumbnail = _fit(picture)
    sheet.paste(thumbnail, (left + (_THUMBNAIL - thumbnail.width) // 2, top + (_THUMBNAIL - thumbnail.height) // 2))
    if corner:
        _draw_corner(pen, corner, left + _THUMBNAIL, top + _THUMBNAIL)
    if tile.frame:
        pen.rectangle((left, top, left + _THUMBNAIL - 1, top + _THUMBNAIL - 1), outline=tile.frame, width=3)
    text_top = top + _THUMBNAIL + 8
    lines = [(tile.heading, tile.frame or _INK), *((line, _FADED) for line in tile.lines[:tile_lines])]
    missing: set[str] = set()
    for number, (line, ink) in enumerate(lines):
        missing |= _write(pen, (left, text_top + number * _LINE_HEIGHT), line, _TEXT_SIZE, _THUMBNAIL, ink)
    return missing


def _draw_corner(pen: ImageDraw.ImageDraw, text: str, right: int, bottom: int) -> None:
    """Draw a few words on a dark ground in the lower right corner of a thumbnail."""
    font = drawable(text, _CORNER_SIZE).font
    width = math.ceil(font.getlength(text))
    pen.rectangle((right - width - 12, bottom - _LINE_HEIGHT, right - 1, bottom - 1), _INK)
    pen.text((right - width - 6, bottom - _LINE_HEIGHT + 3), text, _PAPER, font)


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, width: int, ink: str
) -> frozenset[str]:
    """Write a text, cut to a width in pixels; returns the letters that no font has."""
    words = drawable(text, size)
    pen.text(place, cut(words.text, words.font, width), ink, words.font)
    return words.missing


def _fit(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Scale a picture of any size and shape so that its longer side is a thumbnail's."""
    scale = _THUMBNAIL / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, PIL.Image.Resampling.LANCZOS if scale < 1 else PIL.Image.Resampling.BICUBIC)


def wrap(text: str, lines: int, width: int = _THUMBNAIL) -> list[str]:
    """Break a text into lines, by default of a tile. The last line holds the rest, which is cut when drawn.

    Args:
        text: of any length.
        lines: at most this many.
        width: of a line, in pixels.
    """
    text, font, _ = drawable(text, _TEXT_SIZE)
    words = text.split()
    wrapped: list[str] = []
    while words and len(wrapped) < lines - 1:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        wrapped.append(" ".join(words[:count]))
        words = words[count:]
    return [*wrapped, " ".join(words)] if words else wrapped


def cut(text: str, font: Font, width: int) -> str:
    """Shorten a line to at most `width` pixels; an ellipsis marks the cut."""
    if font.getlength(text) <= width:
        return text
    count = bisect(range(1, len(text)), width, key=lambda count: math.ceil(font.getlength(f"{text[:count]}…")))
    return f"{text[:count]}…"
