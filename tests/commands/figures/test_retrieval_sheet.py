"""A sheet of captions shows the first pictures of each, and marks the right one wherever it is."""

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset, Features, Image, Value

from hf_encoders.commands.figures import retrieval_sheet
from hf_encoders.commands.figures.retrieval_sheet import RetrievalSheet, SheetOptions
from hf_encoders.evaluation.embedded_columns import EmbeddedColumns
from hf_encoders.evaluation.found_pictures import CaptionSearch

CAPTIONS = ["a red chair", "a blue chair", "a green chair", "a chair red"]
# The first caption finds the pictures in this order: 1, 2, 3, 0.
TEXTS = torch.tensor([[0.1, 4, 3, 2], [0, 1, 0, 0], [0, 0, 1, 0], [3, 0, 0, 1]])


@pytest.fixture
def rows():
    colours = ("red", "blue", "green", "yellow")
    images = [PIL.Image.new("RGB", (8, 8), colour) for colour in colours]
    maps = [PIL.Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) + 1) for _ in colours]
    features = Features(image=Image(), depth=Image(), caption=Value("string"))
    return Dataset.from_dict({"image": images, "depth": maps, "caption": CAPTIONS}, features=features)


def make_sheet(modalities=("image",), **options):
    embeds = {"text": TEXTS} | {modality: torch.eye(4) for modality in modalities}
    owners = dict.fromkeys(embeds, np.arange(4))
    search = CaptionSearch(EmbeddedColumns(embeds, owners, CAPTIONS, np.ones(4, bool)))
    return RetrievalSheet(search, modalities, SheetOptions(**options))


def test_the_right_picture_follows_where_it_is_not_among_the_first():
    first, second, *_ = make_sheet(pictures=2).content()["queries"]
    assert first["query"] == "a red chair" and first["by_modality"]["image"]["rank"] == 4
    hits = first["by_modality"]["image"]["found"]
    assert [(hit["place"], hit["row"], hit["right"]) for hit in hits] == [(1, 1, False), (2, 2, False), (4, 0, True)]
    assert (hits[0]["lacks"], hits[0]["instead"]) == (["red"], ["blue"])
    assert [hit["right"] for hit in second["by_modality"]["image"]["found"]] == [True, False]


def test_the_worst_captions_and_confused_words():
    content = make_sheet(("image", "depth"), captions=2, worst=True).content()
    assert [query["row"] for query in content["queries"]] == [0, 3] and content["chosen"] == "worst"
    assert content["confused"]["image"] == [{"asked": "red", "found": "blue", "count": 1}]
    assert content["confused"].keys() == {"image", "depth"}


def test_tiles_say_what_is_right_and_what_is_lacking(rows, monkeypatch):
    sections = []
    draw = retrieval_sheet.draw

    def draw_and_keep(found, **options):
        sections.extend(found)
        return draw(found, **options)

    monkeypatch.setattr(retrieval_sheet, "draw", draw_and_keep)
    metrics = {"retrieval/text_to_image_recall@1": 0.5}
    sheet = make_sheet(("image", "depth"), pictures=2)
    picture = sheet.draw("title", metrics, rows, {"image": "image", "depth": "depth"})
    top, image, depth, *_ = sections
    assert top.title == "title" and "recall@1/5/10: text → image 0.50" in top.lines[0]
    assert top.lines[1].endswith("images: red → blue (1)")
    assert (image.title, image.lines) == ("a red chair", ["images: the right one is number 4 of 4"])
    assert (depth.title, depth.tiles[0].modality) == ("", "depth")
    assert [tile.is_right for tile in image.tiles] == [False, False, True]
    assert image.tiles[0].lines == ["not red", "but blue"] and image.tiles[2].heading.startswith("4 · ")
    assert (np.asarray(picture) == (26, 127, 55)).all(-1).any()  # the green frame
    last = sections[-2]
    assert last.title == "a chair red" and last.tiles[0].lines == ["the same words, in another order"]


def test_a_sheet_of_too_many_pictures_names_the_options():
    SheetOptions(captions=50, pictures=4).check(100, 2)
    SheetOptions(captions=99, pictures=4).check(50, 2)
    with pytest.raises(ValueError, match="51 captions with 4 pictures each may need 510 places, a sheet has 500: give"):
        SheetOptions(captions=99, pictures=4).check(51, 2)
