"""Captions of columns: what a template names, what it fills in, and what is refused before a run."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_encoders.training.multimodal.arguments import DataArguments
from hf_encoders.training.multimodal.captions import Captions, Template, columns_of_templates
from hf_encoders.training.multimodal.text_checks import all_captions, check_captions
from tests.helpers.multimodal_models import tiny_tokenizer

OBJECTS = [{"name": "bed", "color": "orange", "kind": 1}, {"name": "lamp", "color": "red", "kind": 0}]
ROWS = [
    {"caption": "a red chair", "noun": "chair", "label": 1, "objects": OBJECTS},
    {"caption": "a lamp", "noun": "lamp", "label": -1, "objects": OBJECTS[1:]},
    {"caption": "a table", "noun": None, "label": 0, "objects": []},
]
KINDS = ClassLabel(names=["light", "seat"])
FEATURES = Features(
    {
        "caption": Value("string"),
        "noun": Value("string"),
        "label": KINDS,
        "objects": List({"name": Value("string"), "color": Value("string"), "kind": KINDS}),
    }
)


def captions_of(row, *templates):
    choose = Captions("caption", templates, FEATURES)
    return {choose(row, np.random.default_rng(seed)) for seed in range(40)}


def test_a_row_takes_its_caption_and_every_template_that_it_has_the_values_of():
    templates = ["a {noun}", "{label}", "{objects[1][color]!a} {objects[1][name]}", "{objects[0][kind]}"]
    assert captions_of(ROWS[0], *templates) == {"a red chair", "a chair", "seat", "a red lamp"}
    assert captions_of(ROWS[1], *templates) == {"a lamp", "light"}
    assert captions_of(ROWS[2], *templates) == {"a table", "light"}
    assert captions_of({**ROWS[0], "caption": ["one", "two"]}, "a {noun}") == {"one", "two", "a chair"}
    assert captions_of(ROWS[0]) == {"a red chair"}


def test_an_article_fits_the_word_after_it():
    made = [Template("{color!a} {name}").fill(item) for item in OBJECTS]
    assert made == ["an orange bed", "a red lamp"]


@pytest.mark.parametrize("text", ["a chair", "{}", "a {noun", "{noun.__class__}", "{[0]}"])
def test_what_is_no_template_is_refused(text):
    with pytest.raises(ValueError, match="the template "):
        columns_of_templates(["a {noun}", text])


def test_no_attribute_of_a_value_is_read():
    with pytest.raises(ValueError, match="name columns in braces"):
        Template("{objects[0].__class__}")


def test_a_caption_that_is_no_text_is_a_bad_row():
    with pytest.raises(TypeError, match="3 in column 'caption', expected a caption"):
        Captions("caption")({"caption": [3]}, np.random.default_rng(0))


@pytest.fixture
def options(tmp_path):
    file = str(tmp_path / "rows.parquet")
    Dataset.from_list(ROWS, features=FEATURES).to_parquet(file)
    return lambda *templates: DataArguments(dataset=[file], image_column="", text_templates=list(templates))


def test_a_template_that_fits_no_row_is_refused_before_the_first_step(options):
    check_captions(options("a {objects[1][name]}"), tiny_tokenizer())
    with pytest.raises(ValueError) as caught:
        check_captions(options("a {noun}", "a {objects[0][nme]}"), tiny_tokenizer())
    message = str(caught.value)
    assert message.startswith("--text_templates 'a {objects[0][nme]}': none of the 3 rows that were looked at has its")
    assert "'name': 'bed'" in message
    with pytest.raises(ValueError, match="no column 'nuon'; it has .*noun"):
        check_captions(options("a {nuon}"), tiny_tokenizer())


def test_all_captions_are_those_of_templates_too(options):
    assert list(all_captions(options("a {noun}"))) == ["a red chair", "a chair", "a lamp", "a lamp", "a table"]
    assert list(all_captions(options("{label}"))) == ["a red chair", "seat", "a lamp", "a table", "light"]
