"""Draws the similarities of queries and candidates with matplotlib, as heat maps."""

from collections.abc import Sequence
from pathlib import Path

from ...evaluation.similarities import Similarities
from .page import FADED, INK, LINE, MARGIN, Letters, save, width_of, wrapped, write_heading

_CELL, _LETTER, _LONGEST = 0.17, 0.05, 44  # inches of a cell and of a letter; letters of a name
_BELOW, _GAP, _BAR, _BAR_SPACE = 0.75, 0.35, 0.14, 0.9
_LEAST_WIDTH = 6.5
_WRONG = "#ff5533"


def draw_similarities(output: Path, maps: Sequence[Similarities], title: str, lines: Sequence[str] = ()) -> None:
    """Draw cosines as PNG: a map for each pair of modalities, in it a row per query and a column per candidate.

    A ring marks the most similar candidate of a query where it is a wrong one.

    Args:
        output: where the picture is written.
        maps: at least one.
        title: of the picture.
        lines: smaller text below the title.
    """
    from matplotlib.figure import Figure  # pyplot would touch the caller's settings

    # Queries that stand beside the map at the left already are not written again.
    names = [
        [""] * len(one.names) if place and one.names == maps[place - 1].names else [_short(name) for name in one.names]
        for place, one in enumerate(maps)
    ]
    letters = Letters([title, *lines, *(name for several in names for name in several)])
    lefts = [_GAP + _LETTER * max(map(width_of, several)) for several in names]
    sides = [_CELL * max(len(one.rows), 4) for one in maps]
    width = max(MARGIN + sum(lefts) + sum(sides) + _BAR_SPACE, _LEAST_WIDTH)
    heading = wrapped([letters.written(line) for line in lines], width)
    top = MARGIN + LINE * (2.9 + len(heading))
    height = top + max(sides) + _BELOW
    figure = Figure(figsize=(width, height))
    low, high = min(one.cosines.min() for one in maps), max(one.cosines.max() for one in maps)
    place = MARGIN
    for one, rows, left, side in zip(maps, names, lefts, sides, strict=True):
        place += left
        panel = figure.add_axes((place / width, 1 - (top + side) / height, side / width, side / height))
        shades = panel.imshow(one.cosines, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for row, column in one.wrong():
            panel.scatter(column, row, s=38, facecolors="none", edgecolors=_WRONG, linewidths=1.4)
        panel.set_yticks(range(len(rows)), [letters.written(name) for name in rows], fontsize=6.5, color=INK)
        panel.set_xticks(range(len(one.rows)), [str(row) for row in one.rows], fontsize=6, rotation=90, color=INK)
        panel.tick_params(length=0)
        panel.set_xlabel(f"{one.found} of row", fontsize=9, color=FADED)
        panel.set_title(f"{one.query} → {one.found}", fontsize=10, color=INK)
        place += side
    bar = figure.add_axes(((place + 0.2) / width, 1 - (top + sides[-1]) / height, _BAR / width, sides[-1] / height))
    figure.colorbar(shades, cax=bar).ax.tick_params(labelsize=7, colors=FADED, length=2)
    bar.set_title("cosine", fontsize=7.5, color=FADED, loc="left")
    write_heading(figure, letters.written(title), heading)
    save(figure, output, letters.family)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
