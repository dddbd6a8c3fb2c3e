"""Draws the recall of a retrieval over k with matplotlib, beside that of guessing."""

from collections.abc import Sequence
from pathlib import Path

from ...evaluation.recall_curves import RecallCurve
from .page import FADED, GRID, INK, LINE, Letters, save, wrapped, write_heading

_WIDTH, _HEIGHT = 6.5, 4.2  # inches, of the panel's with what is around it


def draw_recall(output: Path, curves: Sequence[RecallCurve], title: str, lines: Sequence[str] = ()) -> None:
    """Draw recall@k over k as PNG, a line for each direction, and dashed in its colour what guessing reaches.

    Args:
        output: where the picture is written.
        curves: at least one.
        title: of the picture.
        lines: smaller text below the title.
    """
    from matplotlib.figure import Figure  # pyplot would touch the caller's settings
    from matplotlib.ticker import PercentFormatter, StrMethodFormatter

    names = [f"{curve.query} → {curve.found}" for curve in curves]
    letters = Letters([title, *lines, *names])
    heading = wrapped([letters.written(line) for line in lines], _WIDTH)
    top = LINE * (2.4 + len(heading))
    figure = Figure(figsize=(_WIDTH, _HEIGHT + top))
    panel = figure.add_axes((0.12, 0.11, 0.85, 1 - 0.11 - top / (_HEIGHT + top)))
    # Directions with the same curve of guessing share a grey one.
    is_one_chance = all(curve.chance == curves[0].chance for curve in curves)
    for curve, name in zip(curves, names, strict=True):
        marker = "." if len(curve.ks) < 30 else ""
        (line,) = panel.plot(curve.ks, curve.recall, marker=marker, linewidth=1.6, label=letters.written(name))
        if not is_one_chance:
            panel.plot(curve.ks, curve.chance, linestyle="--", linewidth=1, color=line.get_color())
    if is_one_chance:
        panel.plot(curves[0].ks, curves[0].chance, linestyle="--", linewidth=1, color=FADED, label="guessing")
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_major_formatter(PercentFormatter(1))
    panel.set_xlim(1, max(2, *(curve.ks[-1] for curve in curves)))
    panel.set_ylim(0, 1.02)
    panel.set_xlabel("k, the candidates that are looked at", fontsize=9, color=FADED)
    panel.set_ylabel("recall@k", fontsize=9, color=FADED)
    panel.tick_params(labelsize=8, colors=INK)
    panel.grid(color=GRID)
    panel.legend(fontsize=8, loc="lower right", title=None if is_one_chance else "dashed: guessing", title_fontsize=8)
    write_heading(figure, letters.written(title), heading)
    save(figure, output, letters.family)
