"""The tab that searches the collection by words, by a file, or by one of its own rows."""

from typing import Any

import gradio as gr

from ...modalities import Modality, modalities
from ..cards import CARDS_JS, cards
from ..markup import element, note
from ..page_parts import Page
from ..queries import Query, of_file, of_row, of_words, results_markup, search
from .dropped_picture import add_dropped_picture

_FEWEST, _MOST, _USUAL, _STEP = 4, 48, 8, 4


def add_search(page: Page) -> None:
    """Add the tab."""
    words, tab = page.words, SearchTab(page)
    names = [(words.modalities[name], name) for name in page.shown.parts]
    reads = [name for name in modalities(page.shown.model) if name != "text"]
    has_texts, has_pictures = "text" in modalities(page.shown.model), bool(reads)
    query = gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=280):
            typed = gr.Textbox(label=words.query, placeholder=words.query_hint, max_lines=1, visible=has_texts)
            find = gr.Button(words.find, variant="primary", visible=has_texts)
            with gr.Row():
                among = gr.CheckboxGroup(
                    names, value=list(page.shown.parts), label=words.among, visible=len(names) > 1, min_width=200
                )
                only = gr.Dropdown(
                    page.shown.labels,
                    value=[],
                    multiselect=True,
                    label=words.only_labels,
                    info=None,
                    visible=bool(page.shown.labels),
                    min_width=200,
                )
                count = gr.Slider(_FEWEST, _MOST, _USUAL, step=_STEP, label=words.count, min_width=160)
        with gr.Column(scale=2, min_width=240, visible=has_pictures):
            file, read_as = add_dropped_picture(words, words.drop_picture, reads)
    found = gr.HTML(note(words.ask_first if has_texts else words.cannot_read_words), js_on_load=CARDS_JS)
    choices, answer = [among, only, count], [query, found]
    quick: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "embed", "concurrency_limit": 2}
    gr.on([typed.submit, find.click], tab.by_words, [typed, *choices], answer, **quick)
    file.upload(tab.by_file, [file, read_as, *choices], [*answer, file], **quick)
    found.click(tab.by_row, choices, answer, **quick)
    gr.on([among.change, only.change, count.release], tab.again, [query, *choices], found, **quick)


class SearchTab:
    """Answers of the tab: each is the query, which is kept, and what was found as HTML."""

    def __init__(self, page: Page):
        self._page, self._shown, self._words = page, page.shown, page.words

    def by_words(self, typed: str, among: list[str], only: list[str], count: float) -> tuple[Query | None, str]:
        """Search by words."""
        return self._answer(lambda: of_words(self._shown, self._words, typed or ""), among, only, count)

    def by_file(
        self, sent: str | None, read_as: str, among: list[str], only: list[str], count: float
    ) -> tuple[Query | None, str, None]:
        """Search by a file; the next one can be dropped at once."""

        def read() -> Query:
            with self._page.uploads.reading(sent or "") as path:
                return of_file(self._shown, path, read_as)

        return *self._answer(read, among, only, count), None

    def by_row(self, among: list[str], only: list[str], count: float, event: gr.EventData) -> tuple[Query | None, str]:
        """Search by the row whose card was clicked."""
        part, number = row_of_event(self._page, event)
        return self._answer(lambda: of_row(part, number, self._page.pictures), among, only, count)

    def again(self, query: Query | None, among: list[str], only: list[str], count: float) -> str:
        """Search by the same query, with other choices."""
        if query is None:
            return note(self._words.ask_first)
        return self._page.answer(lambda: self._found(query, among, only, count), lambda said: said)

    def _answer(self, make: Any, among: list[str], only: list[str], count: float) -> tuple[Query | None, str]:
        def work() -> tuple[Query | None, str]:
            query: Query = make()
            return query, self._found(query, among, only, count)

        return self._page.answer(work, lambda said: (None, said))

    def _found(self, query: Query, among: list[str], only: list[str], count: float) -> str:
        chosen: list[Modality] = [name for name in self._shown.parts if name in among] or list(self._shown.parts)
        sections = [
            cards(
                self._shown.parts[name],
                search(self._shown.parts[name], query, max(_FEWEST, min(_MOST, int(count))), only or []),
                self._words,
                self._page.pictures,
            )
            for name in chosen
        ]
        return results_markup(query, self._words) + element("div", "".join(sections), class_="hfe-sections")


def row_of_event(page: Page, event: gr.EventData) -> tuple[Any, int]:
    """The part and the row that a click names; what it names wrongly is row -1 of the first part."""
    data = event._data if isinstance(event._data, dict) else {}
    parts = page.shown.parts
    part = next((part for name, part in parts.items() if name == data.get("modality")), next(iter(parts.values())))
    number = data.get("row")
    return part, number if isinstance(number, int) and not isinstance(number, bool) else -1
