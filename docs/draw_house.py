"""Draws docs/house.svg: the folders of the package in rows, by the map and the arrows in CONTRIBUTING.md.

python docs/draw_house.py   (`make house`)
"""

import re
import textwrap
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = Path(__file__).parent / "house.svg"

BOX, GAP, MARGIN = 180, 12, 24
LINE, LETTERS, MOST_LINES = 15, 29, 6
ROW, ARROW = 40 + MOST_LINES * LINE, 34
BACK, INK, FAINT, EDGE = "#ffffff", "#1b2733", "#52616f", "#8fa3b5"
# Rows from the roof to the ground.
TINTS = ("#fde9d9", "#fdf3d3", "#e8f3dc", "#dcefee", "#dfe9f8", "#ebe3f5")


def read_map(guide: str) -> tuple[list[list[str]], dict[str, str]]:
    """The rows of folders, the importing ones first, and what each folder is for."""
    section = guide.partition("## Where things are\n")[2]
    tree, arrows = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[:2]
    rows = [[name.strip() for name in row.split(",")] for row in arrows.split("→")]
    described, name = {}, ""
    for line in tree.splitlines():
        found = re.match(r"  (\w+)/ +(.*)", line)
        if found:
            name, described[found[1]] = found.groups()
        elif name and re.match(r" {20}\S", line):
            described[name] += " " + line.strip()
        else:
            name = ""
    return rows, described


def draw(guide: str) -> str:
    """The picture as SVG."""
    rows, described = read_map(guide)
    width = 2 * MARGIN + max(map(len, rows)) * (BOX + GAP) - GAP
    height = 2 * MARGIN + len(rows) * (ROW + ARROW) - ARROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<title>The folders of hf_encoders: each imports from its own row and those below</title>",
        f'<rect width="{width}" height="{height}" fill="{BACK}"/>',
    ]
    for number, (row, tint) in enumerate(zip(rows, TINTS, strict=True)):
        top = MARGIN + number * (ROW + ARROW)
        if number:
            parts.append(_arrow(width / 2, top - ARROW + 4, top - 4))
        left = (width - len(row) * (BOX + GAP) + GAP) / 2
        for place, name in enumerate(row):
            parts += _box(left + place * (BOX + GAP), top, tint, name, described[name])
    return "\n".join([*parts, "</svg>", ""])


def _arrow(across: float, top: float, end: float) -> str:
    """A line downwards with a head: the row above imports the one below."""
    return (
        f'<path d="M{across} {top}V{end}M{across - 6} {end - 7}L{across} {end}L{across + 6} {end - 7}"'
        f' fill="none" stroke="{EDGE}" stroke-width="2"/>'
    )


def _box(left: float, top: float, tint: str, name: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, LETTERS, max_lines=MOST_LINES, placeholder=" …")
    return [
        f'<rect x="{left}" y="{top}" width="{BOX}" height="{ROW}" rx="6" fill="{tint}" stroke="{EDGE}"/>',
        f'<text x="{left + 10}" y="{top + 22}" font-size="14" font-weight="bold" fill="{INK}">{escape(name)}/</text>',
        *(
            f'<text x="{left + 10}" y="{top + 42 + number * LINE}" font-size="11" fill="{FAINT}">{escape(line)}</text>'
            for number, line in enumerate(lines)
        ),
    ]


if __name__ == "__main__":
    PICTURE.write_text(draw((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")), encoding="utf-8")
