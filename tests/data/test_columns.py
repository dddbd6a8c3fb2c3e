"""Which column is meant where people call it otherwise, and what is said where nobody can know."""

import io

import numpy as np
import PIL.Image
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from hf_encoders.data.cells import columns_of


def encoded(array):
    content = io.BytesIO()
    PIL.Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


PHOTO, MAP = encoded(np.zeros((4, 4, 3), np.uint8)), encoded(np.full((4, 4), 900, np.uint16))


def columns(**cells):
    features = Features({name: feature for name, (feature, _) in cells.items()})
    return columns_of("data", Dataset.from_dict({name: [cell] for name, (_, cell) in cells.items()}, features))


TEXT, BINARY = Value("string"), Value("binary")


@pytest.mark.parametrize(
    ("cells", "modality", "expected"),
    [
        ({"photo": (BINARY, PHOTO), "title": (TEXT, "a")}, "image", "photo"),
        ({"photo": (Image(), {"bytes": PHOTO}), "map": (Image(), {"bytes": MAP})}, "image", "photo"),
        ({"photo": (BINARY, PHOTO), "map": (BINARY, MAP)}, "depth", "map"),
        ({"photo": (TEXT, "a.jpg"), "map": (TEXT, "a.npy"), "title": (TEXT, "a")}, "image", "photo"),
        ({"photo": (TEXT, "a.jpg"), "map": (TEXT, "a.npy"), "title": (TEXT, "a")}, "depth", "map"),
        ({"photo": (TEXT, "a.jpg"), "title": (TEXT, "a")}, "text", "title"),
        ({"photo": (BINARY, PHOTO), "image": (Image(), {"bytes": PHOTO})}, "image", "image"),
    ],
)
def test_the_only_column_of_the_kind_is_meant(cells, modality, expected):
    assert columns(**cells).choose(modality) == expected


def test_a_column_that_is_used_for_something_else_is_not_meant():
    two = columns(photo=(BINARY, PHOTO), other=(BINARY, PHOTO), title=(TEXT, "a"), key=(TEXT, "b"))
    assert two.choose("image", taken={"other"}) == "photo"
    assert two.choose("text", taken={"key"}) == "title"


def test_lists_of_texts_are_texts_where_they_may_be():
    listed = columns(titles=(List(TEXT), ["a", "b"]), number=(Value("int64"), 1))
    assert listed.choose("text", lists=True) == "titles"
    with pytest.raises(ValueError, match="which column holds the texts"):
        listed.choose("text")


def test_the_columns_are_listed_with_what_they_hold():
    some = columns(
        photo=(BINARY, PHOTO),
        other=(BINARY, PHOTO),
        file=(TEXT, "a.jpg"),
        title=(TEXT, "a"),
        kind=(ClassLabel(names=["a"]), 0),
        size=(Value("float32"), 1.5),
    )
    has = (
        "it has photo (pictures), other (pictures), file (names of pictures), title (text), kind (classes with names),"
        " size (numbers)"
    )
    with pytest.raises(ValueError) as caught:
        some.choose("image", option="--image_column")
    assert str(caught.value) == f"data: which column holds the images? Say --image_column; {has}"
    with pytest.raises(ValueError) as caught:
        some.choose("image", "picture", option="--image_column")
    assert str(caught.value) == f"data: no column 'picture'; {has}; say --image_column"
