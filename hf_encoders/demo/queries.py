"""What is searched for: words, a file that was sent, or a row of the collection; each becomes an embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ..arrays import Vectors
from ..modalities import Modality, default_modality, encoder, modalities
from ..models.input_errors import InputError
from ..models.input_modality import picture_modality
from ..models.text_tower import TextTower, unknown_texts
from ..search.index import SearchResult
from .markup import element, note, text
from .opening import Part, Shown
from .pictures import picture_address, small_picture
from .words import Words

AUTOMATIC = "auto"


@dataclass(frozen=True)
class Query:
    """Something to search for or to classify.

    Args:
        embedding: [D].
        modality: of a picture, "image" or "depth"; "text" of words.
        name: the words, the name of a file, or the caption of a row.
        picture: its address; empty without one.
        metres: the range of a depth map, such as "0.8 to 3.2 m"; empty where it is unknown.
        unknown: the words that the model does not know.
    """

    embedding: Vectors
    modality: Modality
    name: str
    picture: str = ""
    metres: str = ""
    unknown: Sequence[str] = ()


def of_words(shown: Shown, words: Words, query: str) -> Query:
    """A query of words.

    Raises:
        InputError: if there are none, or the model embeds no texts.
    """
    query = query.strip()
    if not query:
        raise InputError(words.ask_first)
    if "text" not in modalities(shown.model):
        raise InputError(words.cannot_read_words)
    return Query(_embed(shown, "text", query), "text", query, unknown=unknown_words(shown, query.split()))


def unknown_words(shown: Shown, texts: list[str]) -> list[str]:
    """The texts of which the model's tokenizer knows nothing."""
    tower = shown.model.tower("text")
    return unknown_texts(tower.processor, texts) if isinstance(tower, TextTower) else []


def of_file(shown: Shown, path: Path, read_as: str) -> Query:
    """A query of a file.

    Args:
        shown: the model, and the units of depth maps.
        path: an image or a depth map of any kind that the model's readers know.
        read_as: "image", "depth", or "auto" for what the file looks like.

    Raises:
        InputError: if it cannot be read, or the model does not embed it.
    """
    modality = _modality(shown, path, read_as)
    embedding = _embed(shown, modality, str(path))
    picture = small_picture(str(path), modality, shown.colours)
    return Query(embedding, modality, path.name, picture.inline(), picture.metres)


def of_row(part: Part, number: int, pictures: str) -> Query:
    """A query of a row of the collection; `pictures` is the folder of addresses of its pictures.

    Raises:
        InputError: if there is no such row.
    """
    if not 0 <= number < len(part.embeddings):
        raise InputError(f"no row {number}")
    address, metres = "", ""
    if part.modality != "text":
        address, metres = picture_address(pictures, part.modality, number), part.small_picture(number).metres
    return Query(part.embeddings[number], part.modality, part.caption(number), address, metres)


def search(part: Part, query: Query, count: int, labels: list[str]) -> list[SearchResult]:
    """The nearest rows, of all or of those with some labels."""
    where = np.isin(np.asarray(part.labels), labels) if labels else None
    if where is not None and not where.any():
        return []
    return cast("list[SearchResult]", part.index.search(query.embedding, count, "embedding", where=where))


def _modality(shown: Shown, path: Path, read_as: str) -> Modality:
    known = [modality for modality in modalities(shown.model) if modality != "text"]
    if not known:
        raise InputError(f"{path.name}: the model embeds no pictures, texts alone")
    if read_as == AUTOMATIC:
        found = picture_modality(str(path)) if len(known) > 1 else known[0]
        return found or ("image" if "image" in known else default_modality(shown.model))
    for modality in known:
        if modality == read_as:
            return modality
    raise InputError(f"{path.name}: the model embeds {' and '.join(known)}, not {read_as}")


def _embed(shown: Shown, modality: Modality, item: str) -> Vectors:
    encode = encoder(shown.model, modality, shown.units, task="query")
    embedding: Vectors = encode([item], convert_to="numpy", show_progress_bar=False)[0]
    return embedding


def results_markup(query: Query, words: Words) -> str:
    """What stands above results: the query, as HTML."""
    is_words = query.modality == "text" and not query.picture
    title = words.results_for.format(query.name) if is_words else words.results_like.format(f"“{query.name}”")
    return query_markup(query, words, title)


def query_markup(query: Query, words: Words, title: str) -> str:
    """A query as HTML, under a title."""
    unknown = note(words.unknown_words.format(", ".join(query.unknown))) if query.unknown else ""
    if not query.picture:
        return text("h2", title) + unknown
    picture = element("img", src=query.picture, alt=query.name).removesuffix("</img>")
    kind = words.one_of[query.modality] + (f" · {query.metres}" if query.metres else "")
    line = text("h2", title) + text("p", kind)
    return element("div", picture + element("div", line), class_="hfe-query")
