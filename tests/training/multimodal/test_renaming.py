"""Other words for the names in captions."""

import numpy as np
import pytest
from datasets import ClassLabel, Features, List, Value

from hf_encoders.models.text_reading import TextReading
from hf_encoders.training.multimodal.arguments import DataArguments
from hf_encoders.training.multimodal.renaming import Renaming, make_renaming
from hf_encoders.training.multimodal.samples import ModelInputs, SampleMaker
from tests.helpers.multimodal_models import tiny_processor

ROW = {
    "caption": "an outdoor lamp left of a red table, with a table lamp nearby",
    "objects": [{"name": "outdoor lamp", "kind": 0}, {"name": "table", "kind": 1}, {"name": "table lamp", "kind": 0}],
}
KINDS = Features({"objects": List({"name": Value("string"), "kind": ClassLabel(names=["light", "item"])})})


def renamed(words, share=1.0, row=ROW, seed=0, features=None):
    return Renaming("objects.name", words, share, features)(row["caption"], row, np.random.default_rng(seed))


def test_whole_names_are_said_in_other_words_and_articles_follow():
    assert renamed(["{name!h}"]) == "a lamp left of a red table, with a lamp nearby"
    assert renamed(["{kind}"], features=KINDS) == "a light left of a red item, with a light nearby"
    assert renamed(["{name!h}"], row={"caption": "An Outdoor lamp.", "objects": ROW["objects"]}) == "a lamp."
    assert renamed(["{name!h}"], row={"caption": "a stable lamp", "objects": ROW["objects"][:2]}) == "a stable lamp"


def test_a_share_of_the_names_is_said_otherwise():
    seen = [renamed(["{name!h}"], 0.5, seed=seed) for seed in range(100)]
    first = sum(text.startswith("a lamp") for text in seen)
    assert 30 < first < 70 and len(set(seen)) == 4  # of the two names with other words


def test_what_is_lacking_leaves_a_caption_as_it_is():
    assert renamed(["{color}"]) == ROW["caption"]
    assert renamed(["{name!h}"], row={"caption": "a lamp", "objects": []}) == "a lamp"
    assert renamed(["{name!h}"], row={"caption": "a lamp", "objects": None}) == "a lamp"


def test_a_run_says_names_otherwise():
    options = DataArguments(names_column="objects.name", rename_as=["{name!h}"], rename_share=1.0, image_column="")
    make = SampleMaker(options, ModelInputs(tiny_processor(), TextReading(16)), 0)
    assert make(ROW, 0, 0)["caption"] == "a lamp left of a red table, with a lamp nearby"


def test_values_that_no_object_has_are_refused():
    with pytest.raises(ValueError, match="--names_column objects.nme: the objects .* have no 'nme', but name, kind"):
        Renaming("objects.nme", ["{name}"], 1, KINDS)
    with pytest.raises(ValueError, match="--rename_as: the objects in column 'objects' have no 'color'"):
        Renaming("objects.name", ["{color}"], 1, KINDS)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"names_column": "objects.name"}, "--names_column needs --rename_as"),
        ({"rename_as": ["{name!h}"]}, "--rename_as is for the names in --names_column"),
        ({"names_column": "objects", "rename_as": ["{name!h}"]}, "what their name is called: objects.name"),
        ({"names_column": "o.name", "rename_as": ["{name}"], "rename_share": 1.5}, "--rename_share 1.5"),
        ({"names_column": "o.name", "rename_as": ["thing"]}, "name columns in braces"),
    ],
)
def test_options_that_ask_for_half_of_it_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        make_renaming(DataArguments(**options))
