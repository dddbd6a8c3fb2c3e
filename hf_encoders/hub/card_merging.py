"""The text of a card: generated sections, which are replaced each time, among text of people, which stays."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..models.input_errors import printable

_MARK = re.compile(r"<!-- (generated|end): ([\w-]+) -->")
_CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_MARKUP = re.compile(r"[<>&|`\[\]*\\]")
_LONGEST = 120  # letters of what a file says
_HEADING = re.compile(r"^#{1,6} .+?(?=\s*$)", re.MULTILINE)


@dataclass(frozen=True)
class Piece:
    """A piece of a card: a generated section with its name, or a person's text, which has no name."""

    text: str
    name: str = ""


def merge(old: str, new: str) -> str:
    """Replace the generated sections of the old text by those of the new one.

    The text outside of the sections stays as and where it is. A section that the old text lacks follows the one before
    it. A section is left out if it is empty, or if a person's text has its heading.

    Args:
        old: the present text; may be empty.
        new: sections in their order; text between them is ignored.

    Raises:
        ValueError: if a mark is missing.
    """
    pieces = split(old)
    own = _headings("".join(piece.text for piece in pieces if not piece.name))
    written = [piece for piece in split(new) if piece.name and piece.text and not _is_taken(piece, own)]
    by_name = {piece.name: piece for piece in written}
    merged = [by_name.get(piece.name, piece) for piece in pieces if not piece.name or piece.name in by_name]
    for place, piece in enumerate(written):
        if piece not in merged:
            merged.insert(_place(merged, written[:place]), piece)
    text = ""
    for piece in merged:
        if piece.name:
            text = _with_blank_line(text) + _marked(piece)
        else:
            text += piece.text
    return text.rstrip("\n") + "\n"


def inline(value: object) -> str:
    """What a file says as part of a line of a card: it makes no mark, no markup, no cell of a table and no new line."""
    text = printable(" ".join(str(value).split()))
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return _MARKUP.sub(lambda match: f"&#{ord(match[0])};", text)


def split(text: str) -> list[Piece]:
    """Cut a card's text at the marks `<!-- generated: NAME -->` and `<!-- end: NAME -->`.

    Raises:
        ValueError: if a mark is missing.
    """
    pieces, start, name = [], 0, ""
    for mark in _MARK.finditer(text):
        kind, marked = mark.groups()
        if (kind == "end") != bool(name) or (name and marked != name):
            missing = f"end: {name}" if name else f"generated: {marked}"
            raise ValueError(f"<!-- {missing} --> is missing before {mark[0]}; restore it, or delete its counterpart")
        between = text[start : mark.start()]
        if name or between.strip():
            pieces.append(Piece(between.strip() if name else between, name))
        start, name = mark.end(), "" if name else marked
    if name:
        raise ValueError(f"<!-- end: {name} --> is missing; restore it, or delete its counterpart")
    return pieces + ([Piece(text[start:])] if text[start:].strip() else [])


def _with_blank_line(text: str) -> str:
    """The text, ending in a blank line at least."""
    if not text or text.endswith("\n\n"):
        return text
    return text + ("\n" if text.endswith("\n") else "\n\n")


def _place(merged: Sequence[Piece], before: Sequence[Piece]) -> int:
    """A section's position: after the one before it; without one, before all others or at the end."""
    if before:
        return merged.index(before[-1]) + 1
    return next((place for place, piece in enumerate(merged) if piece.name), len(merged))


def _is_taken(piece: Piece, own: set[str]) -> bool:
    """Whether a person's text has the section's heading. A card has one title, so any title of theirs counts."""
    heading = next(iter(_HEADING.findall(piece.text)), "")
    return heading in own or (heading.startswith("# ") and any(title.startswith("# ") for title in own))


def _headings(text: str) -> set[str]:
    return set(_HEADING.findall(_CODE.sub("", text)))


def _marked(piece: Piece) -> str:
    return f"<!-- generated: {piece.name} -->\n{piece.text}\n<!-- end: {piece.name} -->"
