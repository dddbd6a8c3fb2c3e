"""Draws a confusion matrix with matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...evaluation.confusion import Confusion, Groups, readable_order
from ...models.input_errors import printable
from .page import FADED, GRID, INK, LINE, MARGIN, Letters, save, width_of, wrapped, write_heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MOST_DRAWN = 150  # classes
_ROOMY = 40  # so many classes at most are drawn large
_LONGEST = 28  # letters of a class
_BORDER = FADED
_BAR = (0.14, 1.5)  # inches of a colour bar
_BARS_WIDTH, _LEAST_WIDTH = 1.5, 6.5


def draw_confusion(
    output: Path, found: Confusion, title: str, lines: Sequence[str] = (), groups: Groups | None = None
) -> None:
    """Draw a confusion matrix as PNG: a row per right class, a column per answer.

    The colour of a cell is its share of the row: right answers are blue, wrong ones orange. Classes that are often
    confused are neighbours. Of more than `MOST_DRAWN` classes, those with the most mistakes are drawn.

    Args:
        output: where the picture is written.
        found: what is drawn, of at least one answer.
        title: of the picture.
        lines: smaller text below the title.
        groups: the group of each class; lines are drawn between the groups.
    """
    drawn = _drawn(found, groups)
    if len(drawn.classes) == MOST_DRAWN < len(found.classes):
        lines = [*lines, f"the {MOST_DRAWN} classes with most mistakes; the JSON file has all {len(found.classes)}"]
    groups_of_rows = [] if groups is None else [_name(groups.get(label, label)) for label in drawn.classes]
    words = _Words(printable(title), list(map(printable, lines)), list(map(_name, drawn.classes)), groups_of_rows)
    letters = Letters(words.all())
    save(_draw(drawn, words.written(letters)), output, letters.family)


@dataclass(frozen=True)
class _Words:
    """What is written around a matrix; groups are one per class, or none."""

    title: str
    lines: list[str]
    names: list[str]
    groups: list[str]

    def all(self) -> list[str]:
        return [self.title, *self.lines, *self.names, *self.groups]

    def written(self, letters: Letters) -> "_Words":
        """The words with code points in the place of letters that no font has."""
        parts = ([letters.written(text) for text in part] for part in (self.lines, self.names, self.groups))
        return _Words(letters.written(self.title), *parts)


def _draw(drawn: Confusion, words: _Words) -> "Figure":
    """The figure, of which each part has a place of its own, in inches."""
    from matplotlib.figure import Figure  # pyplot would touch the caller's settings

    sizes = _Sizes(len(drawn.classes), max(map(width_of, words.names)))
    groups_width = 0.2 + sizes.letter * max(map(width_of, words.groups)) if words.groups else 0.0
    left = MARGIN + sizes.names_at_left
    width = max(left + sizes.side + groups_width + _BARS_WIDTH, _LEAST_WIDTH)
    heading = wrapped(words.lines, width)
    top = MARGIN + LINE * (len(heading) + 1.5) + sizes.names_at_top
    height = top + max(sizes.side + sizes.names_below, 2 * _BAR[1] + 1.1)
    figure = Figure(figsize=(width, height))

    def place(left: float, down: float, wide: float, high: float) -> tuple[float, float, float, float]:
        return left / width, 1 - (down + high) / height, wide / width, high / height

    panel = figure.add_axes(place(left, top, sizes.side, sizes.side))
    shades = _draw_cells(panel, drawn, sizes)
    _draw_names(panel, drawn, words.names, sizes)
    _draw_groups(panel, words.groups, sizes)
    for number, (name, shade) in enumerate(shades.items()):
        bar = place(left + sizes.side + groups_width + 0.25, top + number * (_BAR[1] + 0.6) + 0.25, *_BAR)
        _draw_bar(figure.colorbar(shade, cax=figure.add_axes(bar)), name)
    write_heading(figure, words.title, heading)
    return figure


class _Sizes:
    """Sizes of a matrix in inches, and of its letters in points.

    Args:
        count: of its classes.
        longest: the width of the longest name of a class, see `_width`.
    """

    def __init__(self, count: int, longest: int):
        self.is_roomy = count <= _ROOMY
        self.names, self.numbers, cell = (9.0, 8.0, 0.36) if self.is_roomy else (6.5, 5.5, 0.18)
        self.letter = self.names * 0.0088  # the width of one
        self.side = cell * count
        self.names_at_left = 0.45 + self.letter * (longest + 6)
        self.names_below = 0.55 + self.letter * longest
        self.names_at_top = 0.1 if self.is_roomy else 0.1 + self.letter * longest


def _drawn(found: Confusion, groups: Groups | None) -> Confusion:
    """The classes that are drawn, in their order."""
    mistakes = found.counts.sum(0) + found.counts.sum(1) - 2 * found.counts.diagonal()
    if len(mistakes) > MOST_DRAWN:
        found = found.taken(sorted(np.argsort(-mistakes, kind="stable")[:MOST_DRAWN].tolist()))
    return found.taken(readable_order(found, groups))


def _draw_cells(panel: "Axes", drawn: Confusion, sizes: _Sizes) -> "dict[str, AxesImage]":
    """Draw colours and counts; returns what the colours mean → the shades."""
    counts = drawn.counts
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    on_diagonal = np.eye(len(counts), dtype=bool)
    shades = {
        name: panel.imshow(np.where(shown & (counts > 0), shares, np.nan), cmap=colours, vmin=-0.15, vmax=1)
        for name, shown, colours in (("right", on_diagonal, "Blues"), ("wrong", ~on_diagonal, "Oranges"))
    }
    for row, column in zip(*counts.nonzero(), strict=True):
        colour = "white" if shares[row, column] > 0.55 else INK
        text = str(counts[row, column])
        panel.text(column, row, text, ha="center", va="center_baseline", fontsize=sizes.numbers, color=colour)
    return shades


def _draw_names(panel: "Axes", drawn: Confusion, names: Sequence[str], sizes: _Sizes) -> None:
    places = range(len(names))
    rows = [f"{name} ({count})" for name, count in zip(names, drawn.counts.sum(1), strict=True)]
    panel.set_xticks(places, names, rotation=90, fontsize=sizes.names, color=INK)
    panel.set_yticks(places, rows, fontsize=sizes.names, color=INK)
    panel.set_xticks([place + 0.5 for place in places][:-1], minor=True)
    panel.set_yticks([place + 0.5 for place in places][:-1], minor=True)
    panel.tick_params(which="both", length=0, labeltop=not sizes.is_roomy)
    panel.tick_params(axis="x", which="major", labelrotation=90)
    panel.grid(which="minor", color=GRID, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.set_xlabel("answered", fontsize=9, color=FADED)
    panel.set_ylabel("right class (number of rows)", fontsize=9, color=FADED)
    for spine in panel.spines.values():
        spine.set_color(_BORDER)


def _draw_groups(panel: "Axes", groups: Sequence[str], sizes: _Sizes) -> None:
    """Lines between the groups of neighbours, and their names at the right."""
    for name, places in groupby(range(len(groups)), key=groups.__getitem__):
        first, *_, last = [*places] * 2
        panel.text(len(groups) - 0.5 + 0.4, (first + last) / 2, name, va="center", fontsize=sizes.names, color=FADED)
        if last < len(groups) - 1:
            panel.axhline(last + 0.5, color=_BORDER, linewidth=0.8)
            panel.axvline(last + 0.5, color=_BORDER, linewidth=0.8)


def _draw_bar(bar: "Colorbar", name: str) -> None:
    """A legend of one colour."""
    bar.ax.set_ylim(0, 1)
    bar.set_ticks([0, 0.5, 1], labels=["0", "50%", "100%"])
    bar.ax.set_title(f"{name},\nshare of the row", fontsize=7.5, color=FADED, loc="left")
    bar.ax.tick_params(labelsize=7, colors=FADED, length=2)


def _name(label: object) -> str:
    name = printable(str(label))
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
