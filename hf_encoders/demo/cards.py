"""Found rows as cards: a picture, its score and its words; a button on each finds what is like it."""

from collections.abc import Sequence

from ..search.index import SearchResult
from .markup import element, text
from .opening import Part
from .pictures import picture_address
from .words import Words

_CAPTION = 120  # letters

# Shared by everything that shows cards: a click on a button becomes the event "click" with the row.
CARDS_JS = """
element.addEventListener('click', (event) => {
  const card = event.target.closest('button[data-row]');
  if (card) trigger('click', { modality: card.dataset.modality, row: Number(card.dataset.row) });
});
"""


def cards(part: Part, found: Sequence[SearchResult], words: Words, pictures: str) -> str:
    """A section of cards, the best first.

    Args:
        part: what was searched.
        found: its rows.
        words: the language.
        pictures: see `picture_address`.
    """
    name = words.modalities[part.modality]
    if not found:
        content = text("p", words.nothing_found, class_="hfe-note")
    else:
        content = element("ol", "".join(_card(part, hit, words, pictures) for hit in found), class_="hfe-cards")
    return element("section", text("h3", name) + content, aria_label=name)


def _card(part: Part, hit: SearchResult, words: Words, pictures: str) -> str:
    number = part.number(hit.index)
    caption = part.caption(number)[:_CAPTION]
    shown = text("p", caption, class_="hfe-text")
    if part.modality != "text":
        address = picture_address(pictures, part.modality, number)
        shown = element("img", src=address, alt=caption, loading="lazy").removesuffix("</img>")
    score = text("span", f"{hit.score:.3f}", class_="hfe-score")
    label = text("span", part.labels[number], class_="hfe-label") if part.labels[number] else ""
    metres = text("span", part.small_picture(number).metres, class_="hfe-metres") if part.modality == "depth" else ""
    words_below = text("span", caption, class_="hfe-caption") if part.modality != "text" else ""
    return element(
        "li",
        element(
            "button",
            shown + element("span", score + label, class_="hfe-line") + metres + words_below,
            type="button",
            data_modality=part.modality,
            data_row=number,
            title=words.more_like_this,
        ),
    )
