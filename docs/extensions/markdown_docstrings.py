"""Docstrings are Markdown, as they are read in an editor: backticks, fences and tables become reStructuredText."""

import re
from collections.abc import Iterator

from sphinx.application import Sphinx

_CODE = re.compile(r"(?<![:`\w])`([^`]+)`(?![`_])")


def converted(lines: list[str]) -> list[str]:
    """The lines of a docstring in reStructuredText."""
    return list(_tables(_fences("\n".join(lines))))


def _fences(text: str) -> Iterator[str]:
    fenced = ""
    for line in _without_code_over_lines(text).splitlines():
        found = re.match(r"(\s*)```(\w*)$", line)
        if not found:
            yield f"    {line}" if fenced else _CODE.sub(r"``\1``", line)
        elif fenced:
            fenced = ""
            yield ""
        else:
            fenced = line
            yield from ("", f"{found[1]}.. code-block:: {found[2] or 'text'}", "")


def _without_code_over_lines(text: str) -> str:
    """Write code that goes on in the next line as one line's end and the other's beginning."""
    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    parts[::2] = [_CODE.sub(lambda code: re.sub(r"\s*\n(\s*)", r"` \n\1`", code[0]), part) for part in parts[::2]]
    return "".join(parts)


def _tables(lines: Iterator[str]) -> Iterator[str]:
    in_table = False
    for line in lines:
        if not re.match(r"\s*\|.*\|\s*$", line):
            if in_table:
                yield ""
            in_table = False
            yield line
            continue
        margin = line[: len(line) - len(line.lstrip())]
        if not in_table:
            yield from ("", f"{margin}.. list-table::", f"{margin}   :header-rows: 1", "")
            in_table = True
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            for number, cell in enumerate(cells):
                yield f"{margin}   {'* -' if number == 0 else '  -'} {cell}"


def _convert(app: Sphinx, kind: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    lines[:] = converted(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _convert, priority=400)  # before napoleon, whose priority is 500
    return {"parallel_read_safe": True}
