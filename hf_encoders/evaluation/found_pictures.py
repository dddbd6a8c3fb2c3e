"""What captions find among pictures, and which of their words the found pictures lack."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays import Indices
from ..top_k import top_k
from .checks import normalized_rows
from .embedded_columns import EmbeddedColumns
from .retrieval import retrieval_ranks

Similarities: TypeAlias = NDArray[np.float32]

_ROWS_AT_ONCE = 1024
# English words that say nothing of a picture by themselves.
_SMALL_WORDS = {"a", "an", "the", "and", "of", "in", "with"}


@dataclass(frozen=True)
class FoundPicture:
    """A picture that a caption found, or should have found.

    Args:
        row: its number in the split.
        similarity: the cosine with the caption.
        is_right: whether the caption is its own.
        caption: its caption, of several the one that has most words of the query.
        lacks: the words of the query that this caption has not.
        instead: the words of this caption that the query has not.
    """

    row: int
    similarity: float
    is_right: bool
    caption: str
    lacks: list[str]
    instead: list[str]


@dataclass(frozen=True)
class Retrieved:
    """What the captions of a split find among its pictures of one modality.

    Args:
        modality: "image" or "depth".
        ranks: [N], the rank of the right picture of each caption, from 1, as the metrics count it.
        found: [N, k] rows of the split, the most similar first.
        similarities: [N, k].
        best: [N]: of the right pictures of each caption, the row of the most similar one.
        best_similarities: [N].
    """

    modality: str
    ranks: Indices
    found: Indices
    similarities: Similarities
    best: Indices
    best_similarities: Similarities


class CaptionSearch:
    """The captions of a split as queries for its pictures.

    Args:
        embedded: captions and pictures of one split.
    """

    def __init__(self, embedded: EmbeddedColumns):
        self.captions, self._owners = embedded.captions, embedded.owners["text"]
        self._embedded = embedded
        self._texts: dict[int, list[str]] = {}
        for row, caption in zip(self._owners.tolist(), self.captions, strict=True):
            self._texts.setdefault(row, []).append(caption)
        self._rows: dict[str, set[int]] = {}
        for row, caption in zip(self._owners.tolist(), self.captions, strict=True):
            self._rows.setdefault(caption, set()).add(row)

    def row(self, query: int) -> int:
        """The row that a caption is from."""
        return int(self._owners[query])

    def search(self, modality: str, k: int) -> Retrieved:
        """Find the first k pictures of every caption."""
        embedded = self._embedded
        texts = normalized_rows(embedded.embeds["text"], "text")
        pictures = normalized_rows(embedded.embeds[modality], modality)
        owners = embedded.owners[modality]
        ranks, _ = retrieval_ranks(
            texts,
            pictures,
            first_ids=self._owners,
            second_ids=owners,
            captions=self.captions,
            names=("text", modality),
        )
        values, items = [], []
        for block in texts.split(_ROWS_AT_ONCE):
            nearest = top_k((block @ chunk.T for chunk in pictures.split(_ROWS_AT_ONCE)), k)
            values.append(nearest[0].cpu())
            items.append(nearest[1].cpu())
        best, best_similarities = self._best(texts.cpu(), pictures.cpu(), owners)
        found = owners[torch.cat(items).numpy()]
        return Retrieved(modality, ranks, found, torch.cat(values).numpy(), best, best_similarities)

    def _best(self, texts: Tensor, pictures: Tensor, owners: Indices) -> tuple[Indices, Similarities]:
        """Of the right pictures of each caption, the row of the most similar one, and its similarity."""
        places = {row: place for place, row in enumerate(owners.tolist())}
        best, similarities = [], []
        for text, caption in zip(texts, self.captions, strict=True):
            rows = sorted(self._rows[caption])
            highest = (pictures[[places[row] for row in rows]] @ text).max(dim=0)
            best.append(rows[int(highest.indices)])
            similarities.append(float(highest.values))
        return np.array(best), np.array(similarities, np.float32)

    def picture(self, query: int, row: int, similarity: float) -> FoundPicture:
        """What is to be said of a picture that a caption found."""
        asked = self.captions[query]
        wanted = _words(asked)
        caption = max(self._texts[row], key=lambda text: len(set(wanted) & set(_words(text))))
        has = _words(caption)
        return FoundPicture(
            row,
            float(similarity),
            row in self._rows[asked],
            caption,
            list(dict.fromkeys(word for word in wanted if word not in has)),
            list(dict.fromkeys(word for word in has if word not in wanted)),
        )

    def confused_words(self, retrieved: Retrieved) -> list[tuple[str, str, int]]:
        """The words of captions whose first picture is a wrong one, with what that picture has in their place.

        Returns:
            The word asked for, the word found, and in how many captions: the most frequent first.
        """
        counts: Counter[tuple[str, str]] = Counter()
        for query, (rank, row) in enumerate(zip(retrieved.ranks, retrieved.found[:, 0].tolist(), strict=True)):
            picture = self.picture(query, row, 0)
            if rank > 1 and not picture.is_right:
                counts.update(set(replaced_words(self.captions[query], picture.caption)))
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(asked, found, count) for (asked, found), count in ordered]


def replaced_words(asked: str, found: str) -> list[tuple[str, str]]:
    """The words of a text that another has others for: ("red", "blue") of "a red chair" and "a blue chair".

    Runs of words that both texts have are matched. Between them, a run of words is compared with one of as many word
    by word. Of runs of two lengths, the first words are, and the last ones where the same word follows them.
    Punctuation does not count, nor do small words such as "a" and "of".
    """
    sides = _words(asked), _words(found)
    pairs: list[tuple[str, str]] = []
    for kind, top, bottom, left, right in SequenceMatcher(None, *sides, autojunk=False).get_opcodes():
        if kind != "replace":
            continue
        first, second = sides[0][top:bottom], sides[1][left:right]
        if len(first) == len(second):
            pairs += zip(first, second, strict=True)
            continue
        if min(len(first), len(second)) > 1:  # a thing's colour often comes first, and its noun last
            pairs.append((first[0], second[0]))
        if bottom < len(sides[0]):
            pairs.append((first[-1], second[-1]))
    return [pair for pair in pairs if pair[0] != pair[1]]


def chosen_queries(search: CaptionSearch, retrieved: Sequence[Retrieved], count: int, worst: bool = False) -> list[int]:
    """Choose captions to show, one per row.

    Args:
        search: the captions.
        retrieved: what they find in each modality.
        count: how many, if there are as many.
        worst: those whose right pictures have the highest ranks, all modalities together; else from first to last in
            equal steps.

    Returns:
        Numbers of captions; the worst first, or in their order.
    """
    ranks = sum(found.ranks for found in retrieved)
    order = np.argsort(-ranks, kind="stable").tolist() if worst else range(len(search.captions))
    by_row: dict[int, int] = {}
    for query in order:
        by_row.setdefault(search.row(query), query)
    queries = list(by_row.values())
    if worst:
        return queries[:count]
    places = np.linspace(0, len(queries) - 1, min(count, len(queries))).round().astype(int)
    return [queries[place] for place in places]


def _words(text: str) -> list[str]:
    """The words in their order, in lower case, without small ones."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in _SMALL_WORDS]
