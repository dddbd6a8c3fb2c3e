"""Columns are embedded by all processes; an item that cannot be used is named by its row."""

import pytest
from accelerate import PartialState
from datasets import Dataset, Features, List, Value

from hf_encoders.evaluation.embedded_columns import embed_columns


@pytest.fixture
def process():
    return PartialState(cpu=True)


def test_an_item_is_named_by_its_row(tiny_multimodal, process):
    captions = [["a chair", "a red chair"], ["a table"], ["a lamp", None]]
    rows = Dataset.from_dict({"caption": captions}, Features({"caption": List(Value("string"))}))
    with pytest.raises(ValueError, match="^column 'caption': row 2: a NoneType, expected a string$"):
        embed_columns(tiny_multimodal, rows, {"text": "caption"}, process)


def test_a_map_is_named_by_its_row(tiny_multimodal, process):
    rows = Dataset.from_dict({"depth": [[1.0]] * 3})
    with pytest.raises(ValueError, match="^column 'depth': row 0: "):
        embed_columns(tiny_multimodal, rows, {"depth": "depth"}, process)


def test_a_file_whose_name_looks_like_a_position_keeps_it(tiny_multimodal, process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = Dataset.from_dict({"picture": ["image 0", "image 5"]})
    with pytest.raises(ValueError, match="^column 'picture': image 0: no such file$"):
        embed_columns(tiny_multimodal, rows, {"image": "picture"}, process)
