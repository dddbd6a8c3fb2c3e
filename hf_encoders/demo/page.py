"""The page in one language: its top and its tabs."""

from importlib.resources import files

import gradio as gr

from .markup import element, note, text
from .page_parts import Page
from .tabs.classify import add_classify
from .tabs.convert import add_convert
from .tabs.explore import add_explore
from .tabs.search import add_search
from .words import LANGUAGES, Place

STYLE = files(__package__).joinpath("assets", "page.css").read_text(encoding="utf-8")
# Seconds between two looks at files that were sent, and seconds that they stay: others may send the same meanwhile.
_LOOK, _KEEP = 60, 600


def make_page(page: Page, place: Place = "here") -> gr.Blocks:
    """Make the page.

    Args:
        page: what it shows, and in which language.
        place: where it runs.
    """
    words = page.words
    with gr.Blocks(title=words.title, analytics_enabled=False, delete_cache=(_LOOK, _KEEP)) as blocks:
        gr.HTML(_top(page, place))
        with gr.Tab(words.search):
            add_search(page)
        with gr.Tab(words.classify):
            add_classify(page)
        with gr.Tab(words.convert):
            add_convert(page)
        with gr.Tab(words.explore) as explore:
            add_explore(page, explore)
    return blocks


def head(page: Page) -> str:
    """What the page's head holds beside Gradio's own: the language, for browsers and screen readers."""
    return f"<script>document.documentElement.lang = '{page.words.language}';</script>"


def _top(page: Page, place: Place) -> str:
    words, shown = page.words, page.shown
    rows = " · ".join(f"{len(part.embeddings):,} {words.modalities[name]}" for name, part in shown.parts.items())
    links = "".join(
        text(
            "a",
            other.own_name,
            href=f"../{name}/",
            lang=name,
            hreflang=name,
            aria_current="page" if name == words.language else None,
        )
        for name, other in LANGUAGES.items()
    )
    left_out = note(words.unreadable_rows.format(f"{shown.skipped:,}")) if shown.skipped else ""
    return (
        element("div", text("h1", words.title) + element("nav", links), class_="hfe-top")
        + note(words.shows.format(model=shown.model_name, data=shown.name, rows=rows))
        + left_out
        + note(words.files_go[place])
    )
