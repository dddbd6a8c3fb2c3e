"""The tab that classifies a picture by labels in words."""

import re
from typing import Any, cast

import gradio as gr

from ...any_encoder import AnyEncoder
from ...modalities import PICTURES, modalities
from ...models.modeling_multimodal_encoder import MultimodalEncoderModel
from ...models.tower import Encoder
from ...zero_shot import CALIBRATED, Calibration, Score, ZeroShotClassifier, calibration_of
from ..markup import element, message, note, text
from ..page_parts import Page
from ..queries import Query, of_file, of_row, query_markup, unknown_words
from .dropped_picture import add_dropped_picture

_COMMAS = re.compile(r"[,，、;；\n]+")
_STRIDE = 7  # scenes between one that is taken and the next
_TEMPLATES = ("a photo of a {}.",)  # CLIP's, for a model that carries none


def add_classify(page: Page) -> None:
    """Add the tab."""
    words, tab = page.words, ClassifyTab(page)
    known = modalities(page.shown.model)
    reads = [name for name in PICTURES if name in known]
    if "text" not in known or not reads:
        gr.HTML(note(words.cannot_classify))
        return
    picture, taken = gr.State(None), gr.State(0)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=260):
            file, read_as = add_dropped_picture(words, words.drop_to_classify, reads)
            scene = gr.Button(words.take_a_scene, visible=any(name in PICTURES for name in page.shown.parts))
        with gr.Column(scale=3, min_width=280):
            labels = gr.Textbox(label=words.labels, value=words.labels_hint, lines=2)
            classify = gr.Button(words.classify_again, variant="primary")
            answer = gr.HTML(note(words.no_picture_yet))
    quick: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "embed", "concurrency_limit": 2}
    file.upload(tab.by_file, [file, read_as, labels], [picture, answer, file], **quick)
    scene.click(tab.by_scene, [taken, labels], [picture, answer, taken], **quick)
    gr.on([labels.submit, classify.click], tab.again, [picture, labels], answer, **quick)


class ClassifyTab:
    """Answers of the tab: the picture as a query, which is kept, and its labels as HTML."""

    def __init__(self, page: Page):
        self._page, self._shown, self._words = page, page.shown, page.words
        self._calibration = _calibration(page.shown.model)

    def by_file(self, sent: str | None, read_as: str, labels: str) -> tuple[Query | None, str, None]:
        """Classify a file; the next one can be dropped at once."""

        def work() -> tuple[Query | None, str, None]:
            with self._page.uploads.reading(sent or "") as path:
                query = of_file(self._shown, path, read_as)
            return query, self.again(query, labels), None

        return self._page.answer(work, lambda said: (None, said, None))

    def by_scene(self, taken: int, labels: str) -> tuple[Query | None, str, int]:
        """Classify a scene of the collection, another one each time."""
        parts = [self._shown.parts[name] for name in PICTURES if name in self._shown.parts]
        part = parts[taken % len(parts)]

        def work() -> tuple[Query | None, str, int]:
            number = taken // len(parts) * _STRIDE % len(part.embeddings)
            query = of_row(part, number, self._page.pictures)
            return query, self.again(query, labels), taken + 1

        return self._page.answer(work, lambda said: (None, said, taken + 1))

    def again(self, query: Query | None, labels: str) -> str:
        """Classify the same picture by other labels."""
        if query is None:
            return note(self._words.no_picture_yet)
        chosen = list(dict.fromkeys(label for part in _COMMAS.split(labels or "") if (label := part.strip())))
        if not chosen:
            return self._top(query) + message(self._words.no_labels)
        return self._page.answer(
            lambda: self._top(query) + self._scores(query, chosen), lambda said: self._top(query) + said
        )

    def _top(self, query: Query) -> str:
        return query_markup(query, self._words, query.name)

    def _scores(self, query: Query, labels: list[str]) -> str:
        templates = self._calibration.templates if self._calibration else _TEMPLATES
        classifier = ZeroShotClassifier(
            cast("MultimodalEncoderModel | AnyEncoder", self._shown.model), labels, templates
        )
        embedding = query.embedding[None]
        (scores,) = classifier.classify_embeddings(embedding, top_k=len(labels))
        above, notes = "", [self._words.probability_note]
        if self._calibration and query.modality in self._calibration.modalities:
            ((best, *_),) = classifier.classify_embeddings(embedding, threshold=CALIBRATED, modality=query.modality)
            if best["label"] is None:
                above = element("p", text("strong", self._words.none_of_these), role="status")
            notes = [self._words.calibrated_note]
        if unknown := unknown_words(self._shown, labels):
            notes.insert(0, self._words.unknown_words.format(", ".join(unknown)))
        return above + self._table(scores) + "".join(map(note, notes))

    def _table(self, scores: list[Score]) -> str:
        words = self._words
        head = "".join(text("th", name, scope="col") for name in ("", words.probability, words.cosine))
        rows = "".join(element("tr", _row(score)) for score in scores)
        return element("table", element("thead", element("tr", head)) + element("tbody", rows), class_="hfe-scores")


def _row(score: Score) -> str:
    bar = element("span", class_="hfe-bar", style=f"width: {100 * score['score']:.1f}%")
    return (
        text("th", score["label"], scope="row")
        + element("td", bar + text("span", f"{100 * score['score']:.1f} %"), class_="hfe-probability")
        + text("td", f"{score['similarity']:.3f}")
    )


def _calibration(model: Encoder) -> Calibration | None:
    """What a model knows of pictures that are none of the labels; None if it knows nothing, or that is out of date."""
    try:
        calibration = calibration_of(model)
        calibration.check(model, calibration.templates)
    except ValueError:
        return None
    return calibration
