"""The tab that shows the collection as a map, where a click finds what is like a scene."""

from typing import Any

import gradio as gr

from ..cards import CARDS_JS, cards
from ..map_markup import MAP_JS, map_markup
from ..markup import element
from ..page_parts import Page
from ..queries import of_row, results_markup, search
from .search import row_of_event

_COUNT = 8


def add_explore(page: Page, tab: gr.Tab) -> None:
    """Add the tab's content; the map is drawn when the tab is opened.

    Args:
        page: what it shows.
        tab: the tab itself.
    """
    words, answers = page.words, ExploreTab(page)
    names = [(words.modalities[name], name) for name in page.shown.parts]
    which = gr.Radio(names, value=names[0][1], label=words.map_of, visible=len(names) > 1)
    drawn = gr.HTML(js_on_load=MAP_JS, min_height=320)
    found = gr.HTML(js_on_load=CARDS_JS)
    one: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "map", "concurrency_limit": 2}
    gr.on([tab.select, which.change], answers.draw, which, drawn, **one)
    gr.on([drawn.click, found.click], answers.like, None, found, **one)


class ExploreTab:
    """Answers of the tab, as HTML."""

    def __init__(self, page: Page):
        self._page = page

    def draw(self, modality: str) -> str:
        """The map of a modality."""
        parts = self._page.shown.parts
        part = next((part for name, part in parts.items() if name == modality), next(iter(parts.values())))
        return self._page.answer(lambda: map_markup(part, self._page.words, self._page.pictures), lambda said: said)

    def like(self, event: gr.EventData) -> str:
        """What is like the scene that was clicked."""
        part, number = row_of_event(self._page, event)
        page = self._page

        def work() -> str:
            query = of_row(part, number, page.pictures)
            hits = search(part, query, _COUNT + 1, [])
            others = [hit for hit in hits if part.number(hit.index) != number][:_COUNT]
            found = element("div", cards(part, others, page.words, page.pictures), class_="hfe-sections")
            return results_markup(query, page.words) + found

        return page.answer(work, lambda said: said)
