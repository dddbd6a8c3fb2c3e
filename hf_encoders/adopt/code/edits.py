"""Changes the text of a Python file at the places of its nodes; all else stays as it was written, comments too."""

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """A node, and the text that takes its place.

    Args:
        node: of the file's tree.
        text: its lines after the first get the indentation of the node.
    """

    node: ast.stmt | ast.expr
    text: str


def edited(text: str, edits: Sequence[Edit], kept: Collection[ast.stmt], all_of_them: Sequence[ast.stmt]) -> str:
    """Apply edits, and cut out statements at the top of a file.

    Args:
        text: the file.
        edits: of nodes that do not lie within each other.
        kept: the statements to keep.
        all_of_them: the statements at the top of the file.
    """
    # The tree counts columns in bytes.
    lines = [line.encode() for line in text.split("\n")]
    spans = {id(node): _span(node, lines) for node in all_of_them}
    keep = {id(node) for node in kept}
    taken = {line for node in kept for line in range(*spans[id(node)])}
    cut = {
        line for node in all_of_them if id(node) not in keep for line in range(*spans[id(node)]) if line not in taken
    }
    within = {line for span in spans.values() for line in range(*span)}
    for edit in sorted(edits, key=lambda edit: (edit.node.lineno, edit.node.col_offset), reverse=True):
        _apply(edit, lines)
    left = [(line.decode(), number in within) for number, line in enumerate(lines) if number not in cut]
    return _spaced(left)


def _span(node: ast.stmt, lines: Sequence[bytes]) -> tuple[int, int]:
    """The lines of a statement, with its decorators and the comments right above it."""
    decorators = getattr(node, "decorator_list", [])
    first = min(part.lineno for part in [node, *decorators]) - 1
    while first > 0 and lines[first - 1].startswith(b"#"):
        first -= 1
    return first, node.end_lineno or node.lineno


def _apply(edit: Edit, lines: list[bytes]) -> None:
    """Replace a node in the lines; a node of several lines leaves empty ones, so that no number changes."""
    node = edit.node
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
    indent = before[: len(before) - len(before.lstrip())]
    text = edit.text.encode().replace(b"\n", b"\n" + indent)
    lines[first] = before + text + after
    for number in range(first + 1, last + 1):
        lines[number] = b"\0"  # no line: removed in the end


def _spaced(lines: Sequence[tuple[str, bool]]) -> str:
    """The lines with two empty ones in a row at most between statements, as they are left where some were cut out.

    Args:
        lines: each with whether it is within a statement: a text of several lines stays as it is.
    """
    found: list[str] = []
    for line, is_within in lines:
        if line == "\0" or (not is_within and not line.strip() and (not found or found[-2:] == ["", ""])):
            continue
        found.append(line if is_within or line.strip() else "")
    while found and not found[-1]:
        found.pop()
    return "\n".join(found) + "\n"
