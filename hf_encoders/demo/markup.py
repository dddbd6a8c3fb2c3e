"""Pieces of the page as HTML. Every text that comes from a file or a person is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

_UNITS = ("kB", "MB", "GB", "TB")


def element(name: str, content: str = "", **attributes: object) -> str:
    """An element around content that is HTML already; underscores in the names of attributes are dashes.

    Args:
        name: such as "p".
        content: HTML.
        attributes: texts, which are escaped; one that is None or False is left out, True stands alone.
    """
    written = "".join(
        f" {key.strip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return f"<{name}{written}>{content}</{name}>"


def text(name: str, content: object, **attributes: object) -> str:
    """An element around a text."""
    return element(name, escape(str(content)), **attributes)


def message(content: str, *, lead: str = "") -> str:
    """Something that went wrong; read aloud by screen readers."""
    start = text("strong", lead) + " " if lead else ""
    return element("div", start + escape(content), role="alert", class_="hfe-message")


def note(content: str) -> str:
    """Something worth knowing."""
    return text("p", content, class_="hfe-note")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, which scrolls sideways where the page is narrow."""
    head = element("tr", "".join(text("th", heading, scope="col") for heading in headings))
    body = "".join(element("tr", "".join(text("td", cell) for cell in row)) for row in rows)
    whole = element("table", element("thead", head) + element("tbody", body), class_="hfe-table")
    return element("div", whole, class_="hfe-scroll", tabindex=0)


def listing(lines: Iterable[object]) -> str:
    """A list of texts."""
    return element("ul", "".join(text("li", line) for line in lines), class_="hfe-list")


def folded(title: str, content: str) -> str:
    """Content that is shown when its title is clicked."""
    return element("details", text("summary", title) + content, class_="hfe-folded")


def bytes_in_words(count: int) -> str:
    """A number of bytes, such as "9.5 MB"."""
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in _UNITS:
        size /= 1000
        if size < 1000 or unit == _UNITS[-1]:
            break
    return f"{size:.1f} {unit}"
