"""Draws results as one picture: thumbnails with a few words each, under the query that found them."""

import math
import sys
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from PIL import ImageDraw

from ..models.depth_map_files import read_depth
from ..models.image_files import read_image
from ..models.input_errors import printable
from .fonts import Font, drawable

MAX_TILES = 500
_NAMED = 10  # letters in a warning
TILE_LINES = 2  # below the heading of a tile
_THUMBNAIL, _GAP, _MARGIN = 192, 16, 24
_TITLE_SIZE, _TEXT_SIZE, _LINE_HEIGHT = 20, 14, 20
_PAPER, _CARD, _INK, _FADED, _ACCENT = "#ffffff", "#f1f3f5", "#1f2328", "#636c76", "#0969da"
_TILE_HEIGHT = _THUMBNAIL + 8 + (1 + TILE_LINES) * _LINE_HEIGHT


@dataclass(frozen=True)
class Tile:
    """One thumbnail.

    Args:
        picture: a path, a PIL image, or another input of `read_image` or `read_depth`.
        modality: "image" or "depth"; depth is drawn in grey, from each map's lowest to its highest valid value.
        heading: the line below it.
        lines: the lines below the heading; a line that is too long is cut.
        is_query: draw a frame, to tell it from the results.
    """

    picture: object
    modality: str
    heading: str
    lines: Sequence[str] = ()
    is_query: bool = False


@dataclass(frozen=True)
class Section:
    """A title (none if empty) and its tiles."""

    title: str
    tiles: Sequence[Tile]


def draw(sections: Sequence[Section], columns: int = 6) -> PIL.Image.Image:
    """Draw the sections below each other.

    Args:
        sections: at most `MAX_TILES` tiles in all.
        columns: at most this many tiles stand side by side.

    Returns:
        An RGB image.

    Raises:
        ValueError: if there are more tiles.
    """
    check_size(sum(len(section.tiles) for section in sections))
    columns = max(1, min(columns, max((len(section.tiles) for section in sections), default=1)))
    width = 2 * _MARGIN + columns * (_THUMBNAIL + _GAP) - _GAP
    sheet = PIL.Image.new("RGB", (width, 2 * _MARGIN + sum(_height(s, columns) for s in sections)), _PAPER)
    top = _MARGIN
    missing: set[str] = set()
    for section in sections:
        missing |= _draw_section(sheet, section, top, columns)
        top += _height(section, columns)
    if missing:
        _warn_of(missing)
    return sheet


def _warn_of(missing: set[str]) -> None:
    """One line about letters that are drawn as their code points."""
    named = " ".join(sorted(missing)[:_NAMED])
    sys.stderr.write(
        f"warning: no font here has {printable(named)}{' ...' if len(missing) > _NAMED else ''}: drawn as code points"
        " such as [U+6905]; install a font that has them, such as Noto Sans CJK or Noto Emoji, and matplotlib, which"
        " finds it\n"
    )


def check_size(tiles: int) -> None:
    """Refuse a sheet of too many tiles."""
    if tiles > MAX_TILES:
        raise ValueError(f"{tiles} pictures, a contact sheet holds {MAX_TILES} at most; write .jsonl instead")


def depth_to_grey(picture: object) -> PIL.Image.Image:
    """A depth map as an 8-bit grey image, from its lowest valid value (black) to its highest; invalid pixels are black.

    Args:
        picture: what `read_depth` takes.
    """
    values = np.asarray(read_depth(picture, "a depth map"), np.float64)
    values = values.reshape(-1, *values.shape[-2:])[0]
    valid = np.isfinite(values) & (values != 0)
    low, high = (values[valid].min(), values[valid].max()) if valid.any() else (0.0, 0.0)
    shown = np.where(valid, (values - low) / max(high - low, 1e-12), 0)
    return PIL.Image.fromarray((shown.clip(0, 1) * 255).astype(np.uint8))


def _height(section: Section, columns: int) -> int:
    lines = -(-len(section.tiles) // columns)
    return (_TITLE_SIZE + _GAP if section.title else 0) + lines * (_TILE_HEIGHT + _GAP)


def _draw_section(sheet: PIL.Image.Image, section: Section, top: int, columns: int) -> set[str]:
    """Draw a section; returns the letters that no font has."""
    pen = ImageDraw.Draw(sheet)
    missing: set[str] = set()
    if section.title:
        missing |= _write(pen, (_MARGIN, top), section.title, _TITLE_SIZE, sheet.width - 2 * _MARGIN, _INK)
        top += _TITLE_SIZE + _GAP
    for number, tile in enumerate(section.tiles):
        line, column = divmod(number, columns)
        left = _MARGIN + column * (_THUMBNAIL + _GAP)
        missing |= _draw_tile(sheet, tile, left, top + line * (_TILE_HEIGHT + _GAP))
    return missing


def _draw_tile(sheet: PIL.Image.Image, tile: Tile, left: int, top: int) -> set[str]:
    """Draw a tile; returns the letters that no font has."""
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((left, top, left + _THUMBNAIL - 1, top + _THUMBNAIL - 1), _CARD)
    grey_or_colour = depth_to_grey(tile.picture) if tile.modality == "depth" else read_image(tile.picture, tile.heading)
    thumbnail = _fit(grey_or_colour.convert("RGB"))
    sheet.paste(thumbnail, (left + (_THUMBNAIL - thumbnail.width) // 2, top + (_THUMBNAIL - thumbnail.height) // 2))
    if tile.is_query:
        pen.rectangle((left, top, left + _THUMBNAIL - 1, top + _THUMBNAIL - 1), outline=_ACCENT, width=3)
    text_top = top + _THUMBNAIL + 8
    lines = [(tile.heading, _ACCENT if tile.is_query else _INK), *((line, _FADED) for line in tile.lines[:TILE_LINES])]
    missing: set[str] = set()
    for number, (line, ink) in enumerate(lines):
        missing |= _write(pen, (left, text_top + number * _LINE_HEIGHT), line, _TEXT_SIZE, _THUMBNAIL, ink)
    return missing


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


def wrap(text: str, lines: int) -> list[str]:
    """Break a text into at most this many lines of a tile. The last line holds the rest, which is cut when drawn."""
    text, font, _ = drawable(text, _TEXT_SIZE)
    words = text.split()
    wrapped: list[str] = []
    while words and len(wrapped) < lines - 1:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= _THUMBNAIL:
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
