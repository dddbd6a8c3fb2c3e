"""Found rows as cards: a picture, its score and its words; a button on each finds what is like it."""

import base64
import io
from collections.abc import Sequence

from ..modalities import Modality
from ..search.index import SearchResult
from ..thumbnails import thumbnail
from .markup import element, text
from .opening import Part
from .words import Words

CARD_SIDE = 256  # pixels of the longer side
_CAPTION = 120  # letters

# Shared by everything that shows cards: a click on a button becomes the event "click" with the row.
CARDS_JS = """
element.addEventListener('click', (event) => {
  const card = event.target.closest('button[data-row]');
  if (card) trigger('click', { modality: card.dataset.modality, row: Number(card.dataset.row) });
});
"""


def jpeg(picture: object, modality: Modality, side: int = CARD_SIDE) -> bytes:
    """A picture as a small JPEG.

    Raises:
        InputError: if it cannot be read.
    """
    content = io.BytesIO()
    thumbnail(picture, modality, side).image.save(content, "JPEG", quality=85)
    return content.getvalue()


def inline(content: bytes) -> str:
    """A JPEG as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def picture_address(pictures: str, modality: Modality, number: int) -> str:
    """Where the page finds the picture of a row; `pictures` is their folder, which is of this run of the server."""
    return f"{pictures}/{modality}/{number}.jpg"


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
    words_below = text("span", caption, class_="hfe-caption") if part.modality != "text" else ""
    return element(
        "li",
        element(
            "button",
            shown + element("span", score + label, class_="hfe-line") + words_below,
            type="button",
            data_modality=part.modality,
            data_row=number,
            title=words.more_like_this,
        ),
    )
