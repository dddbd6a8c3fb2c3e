"""A contact sheet of captions and the pictures that they find, and which of their words are confused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from datasets import Dataset
from PIL.Image import Image

from ...data.cells import picture_items
from ...evaluation.found_pictures import CaptionSearch, FoundPicture, Retrieved, chosen_queries
from ...evaluation.tasks import recall_line
from ...plurals import counted
from .contact_sheet import MAX_TILES, Section, Tile, draw, wrap

_NOUNS = {"image": "images", "depth": "depth maps"}
_PAIRS_DRAWN, _PAIRS_KEPT = 12, 100
# Of a tile, in all and for the words that it lacks.
_TILE_LINES, _LACKING_LINES = 5, 3


class Hit(TypedDict):
    """A picture that was found: its row in the split, what `FoundPicture` tells, and its place, from 1."""

    place: int
    row: int
    similarity: float
    right: bool
    caption: str
    lacks: list[str]
    instead: list[str]


class Found(TypedDict):
    """What a query finds among the pictures of one modality: the rank of the right one, and the first ones."""

    rank: int
    found: list[Hit]


class Query(TypedDict):
    """A caption, the row that it is from, and modality → what it finds."""

    query: str
    row: int
    by_modality: dict[str, Found]


class Confused(TypedDict):
    """A word of queries whose first picture is a wrong one, what that picture has in its place, and in how many."""

    asked: str
    found: str
    count: int


@dataclass(frozen=True)
class SheetOptions:
    """What is on a sheet.

    Args:
        captions: how many.
        pictures: how many of the first pictures each shows.
        worst: show the captions whose right pictures have the highest ranks, not captions from all over the split.
    """

    captions: int = 8
    pictures: int = 5
    worst: bool = False

    def check(self, rows: int, modalities: int) -> None:
        """Refuse a sheet of too many pictures.

        Args:
            rows: of the split.
            modalities: the number of those of the pictures.

        Raises:
            ValueError: with the options to change.
        """
        captions = min(self.captions, rows)
        tiles = captions * modalities * (self.pictures + 1)
        if tiles > MAX_TILES:
            raise ValueError(
                f"{captions} captions with {self.pictures} pictures each may need {tiles} places, a sheet has"
                f" {MAX_TILES}: give fewer --captions or --pictures"
            )


class RetrievalSheet:
    """Some captions of a split, and the pictures that they find.

    Args:
        search: all captions.
        modalities: those of the pictures, in their order.
        options: which captions, and how many pictures.
    """

    def __init__(self, search: CaptionSearch, modalities: Sequence[str], options: SheetOptions):
        self._search, self._options = search, options
        self._retrieved = [search.search(modality, options.pictures) for modality in modalities]
        self._queries = chosen_queries(search, self._retrieved, options.captions, options.worst)

    def content(self) -> dict[str, object]:
        """What the sheet shows, as JSON holds it, and the most confused words of all captions of the split."""
        return {
            "chosen": "worst" if self._options.worst else "evenly",
            "queries": [self._query(query) for query in self._queries],
            "confused": {found.modality: self._confused(found, _PAIRS_KEPT) for found in self._retrieved},
        }

    def draw(self, title: str, metrics: Mapping[str, float], rows: Dataset, columns: Mapping[str, str]) -> Image:
        """Draw the sheet.

        Args:
            title: above everything.
            metrics: of the retrieval, for the lines below it.
            rows: the split that the captions are from.
            columns: modality → column of its pictures.
        """
        chosen = "the worst" if self._options.worst else "from all over the split"
        shown = f"{counted(len(self._queries), 'caption')}, {chosen}; green: the right picture"
        lines = [f"{recall_line(metrics)}; {shown}"]
        for found in self._retrieved:
            pairs = [
                f"{pair['asked']} → {pair['found']} ({pair['count']})" for pair in self._confused(found, _PAIRS_DRAWN)
            ]
            if pairs:
                lines.append(
                    f"words most often confused, asked → found first, {_NOUNS[found.modality]}: {', '.join(pairs)}"
                )
        sections = [Section(title, [], lines)]
        for query in self._queries:
            for number, found in enumerate(self._retrieved):
                pictures = picture_items(rows, columns[found.modality])
                content = self._found(query, found)
                rank = f"{_NOUNS[found.modality]}: the right one is number {content['rank']} of {len(rows)}"
                tiles = [_tile(hit, pictures[hit["row"]], found.modality) for hit in content["found"]]
                sections.append(Section("" if number else self._search.captions[query], tiles, [rank]))
        return draw(sections, columns=self._options.pictures + 1, tile_lines=_TILE_LINES)

    def _query(self, query: int) -> Query:
        by_modality = {found.modality: self._found(query, found) for found in self._retrieved}
        return {"query": self._search.captions[query], "row": self._search.row(query), "by_modality": by_modality}

    def _found(self, query: int, found: Retrieved) -> Found:
        """The first pictures; and the right one, if it is not among them."""
        nearest = zip(found.found[query].tolist(), found.similarities[query].tolist(), strict=True)
        pictures = [self._search.picture(query, row, similarity) for row, similarity in nearest]
        hits = [_hit(place, picture) for place, picture in enumerate(pictures, start=1)]
        rank = int(found.ranks[query])
        if not any(picture.is_right for picture in pictures):
            right = self._search.picture(query, int(found.best[query]), float(found.best_similarities[query]))
            hits.append(_hit(rank, right))
        return {"rank": rank, "found": hits}

    def _confused(self, found: Retrieved, count: int) -> list[Confused]:
        pairs = self._search.confused_words(found)[:count]
        return [{"asked": asked, "found": instead, "count": times} for asked, instead, times in pairs]


def _hit(place: int, picture: FoundPicture) -> Hit:
    return {
        "place": place,
        "row": picture.row,
        "similarity": round(picture.similarity, 6),
        "right": picture.is_right,
        "caption": picture.caption,
        "lacks": picture.lacks,
        "instead": picture.instead,
    }


def _tile(hit: Hit, picture: object, modality: str) -> Tile:
    """The picture, whether it is right, and which words it lacks."""
    heading = f"{hit['place']} · {hit['similarity']:.3f}"
    if hit["right"]:
        return Tile(picture, modality, f"{heading} · right", is_right=True)
    lines = wrap(f"not {', '.join(hit['lacks'])}", _LACKING_LINES) if hit["lacks"] else []
    lines += wrap(f"but {', '.join(hit['instead'])}", _TILE_LINES - len(lines)) if hit["instead"] else []
    return Tile(picture, modality, heading, lines or ["the same words, in another order"])
