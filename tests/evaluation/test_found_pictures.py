"""What captions find: ranks, the right picture, and words that are confused."""

import numpy as np
import pytest
import torch

from hf_encoders.evaluation.embedded_columns import EmbeddedColumns
from hf_encoders.evaluation.found_pictures import CaptionSearch, Retrieved, chosen_queries, replaced_words
from hf_encoders.evaluation.retrieval import retrieval_ranks

CAPTIONS = ["a red chair left of a lamp", "A blue chair, left of a lamp", "a green sofa", "a green sofa", "two lamps"]
OWNERS = np.array([0, 1, 2, 4, 4])  # row 3 was skipped, and row 4 has two captions
PICTURES = np.array([0, 1, 2, 4])


@pytest.fixture
def search():
    pictures = torch.eye(4)
    # The captions of rows 0 and 1 are nearer to each other's picture; "a green sofa" is near both of its own.
    texts = torch.tensor([[1.0, 2, 0, 0], [2, 1, 0, 0], [0, 0, 1, 2], [0, 0, 2, 1], [3, 0, 2, 1]])
    owners = {"text": OWNERS, "image": PICTURES}
    kept = np.array([True, True, True, False, True])
    return CaptionSearch(EmbeddedColumns({"text": texts, "image": pictures}, owners, CAPTIONS, kept))


def test_ranks_are_those_of_the_metrics(search):
    found = search.search("image", 2)
    embeds = search._embedded.embeds
    ids = {"first_ids": OWNERS, "second_ids": PICTURES, "captions": CAPTIONS}
    assert (
        found.ranks.tolist() == retrieval_ranks(embeds["text"], embeds["image"], **ids)[0].tolist() == [2, 2, 1, 1, 3]
    )
    assert found.found.tolist() == [[1, 0], [0, 1], [4, 2], [2, 4], [0, 2]]
    assert found.similarities[0].tolist() == pytest.approx([2 / 5**0.5, 1 / 5**0.5])


def test_the_best_right_picture_is_known_also_where_it_is_not_found(search):
    found = search.search("image", 1)
    assert found.best.tolist() == [0, 1, 4, 2, 4]  # an equal caption's picture is right too
    assert found.best_similarities[4] == pytest.approx(1 / 14**0.5)


def test_more_pictures_than_there_are(search):
    assert search.search("image", 9).found.shape == (5, 4)


def test_words_that_a_picture_lacks_and_has_instead(search):
    picture = search.picture(0, 1, 0.5)
    assert not picture.is_right and (picture.lacks, picture.instead) == (["red"], ["blue"])
    assert search.picture(2, 4, 0.5).is_right
    # Of several captions, the one with most words of the query.
    assert search.picture(2, 4, 0.5).caption == "a green sofa" and search.picture(4, 4, 0.5).caption == "two lamps"


def test_confused_words_are_those_of_wrong_first_pictures(search):
    pairs = search.confused_words(search.search("image", 1))
    assert pairs == [("blue", "red", 1), ("red", "blue", 1), ("two", "red", 1)]


def test_the_most_frequent_confusion_comes_first():
    captions = ["a red cup", "a blue cup", "a red bowl", "a blue bowl"]
    texts = torch.eye(4)[[1, 1, 3, 1]]  # the last one finds "a blue cup"
    owners = {"text": np.arange(4), "image": np.arange(4)}
    search = CaptionSearch(EmbeddedColumns({"text": texts, "image": torch.eye(4)}, owners, captions, np.ones(4, bool)))
    assert search.confused_words(search.search("image", 1)) == [("red", "blue", 2), ("bowl", "cup", 1)]


@pytest.mark.parametrize(
    ("asked", "found", "pairs"),
    [
        ("a red chair", "a blue chair", [("red", "blue")]),
        ("A red chair.", "an red chair", []),
        (
            "a red lamp left of a sofa",
            "a blue bed right of a sofa",
            [("red", "blue"), ("lamp", "bed"), ("left", "right")],
        ),
        ("a red lamp left of a sofa", "a red lamp behind a sofa", [("left", "behind")]),
        ("a purple bottle left of a cup", "a red smart car left of a cup", [("purple", "red"), ("bottle", "car")]),
        ("a ball left of a cup", "a smart car left of a cup", [("ball", "car")]),
        ("a cup", "a cup with a red ball nearby", []),
        ("a cup and a ball", "a cup and a red car nearby", []),
        ("", "a cup", []),
        ("left of the cup", "the cup of the left", []),
    ],
)
def test_words_are_compared_where_they_stand_for_each_other(asked, found, pairs):
    assert replaced_words(asked, found) == pairs


def retrieved(ranks):
    rows = np.zeros((len(ranks), 1), int)
    return Retrieved("image", np.array(ranks), rows, rows.astype(np.float32), rows[:, 0], rows[:, 0].astype(np.float32))


def test_queries_are_from_all_over_the_split_one_per_row(search):
    found = [search.search("image", 1)]
    assert chosen_queries(search, found, 2) == [0, 3]
    assert chosen_queries(search, found, 9) == [0, 1, 2, 3]
    assert chosen_queries(search, found, 1) == [0]


def test_the_worst_queries_come_first(search):
    both = [retrieved([1, 2, 9, 1, 5]), retrieved([1, 9, 1, 1, 5])]
    assert chosen_queries(search, both, 3, worst=True) == [1, 2, 4]
    assert chosen_queries(search, both, 99, worst=True) == [1, 2, 4, 0]
