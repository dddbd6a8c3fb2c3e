"""What an index and its hits look like to a person, and how embeddings that were written before are opened."""

import numpy as np
import PIL.Image
import pytest
import torch

from hf_encoders.search import EmbeddingIndex, SearchResult
from hf_encoders.search.opening import holds_embeddings, open_embeddings
from hf_encoders.search.shown_values import shown
from tests.helpers.colour_model import ColourModel


def test_an_index_shows_its_size_and_its_maker():
    index = EmbeddingIndex(np.eye(3), model=ColourModel("me/colours"), precision="float16")
    assert repr(index) == (
        "EmbeddingIndex(rows=3, dimensions=3, modality=None, precision='float16', index_type='exact',"
        " model='me/colours')"
    )
    assert repr(EmbeddingIndex(np.eye(3))).endswith("index_type='exact', model=None)")
    assert "model='a model from no repo'" in repr(EmbeddingIndex(np.eye(3), model=ColourModel("")))


def test_a_hit_shows_its_row_in_short_form():
    row = {"image": PIL.Image.new("RGB", (224, 200)), "caption": "a red chair", "index": 3}
    assert repr(SearchResult(3, 0.31249, row)) == (
        "SearchResult(index=3, score=0.312, row={'image': <PIL 224x200>, 'caption': 'a red chair', 'index': 3})"
    )
    assert repr(SearchResult(0, 1.0, {})) == "SearchResult(index=0, score=1.000, row={})"


def test_an_argument_of_another_library_is_none_of_search():
    index = EmbeddingIndex(np.eye(3), model=ColourModel())
    with pytest.raises(TypeError, match="search has no argument 'normalize_embeddings': say normalize="):
        index.search("red", normalize_embeddings=True)
    with pytest.raises(TypeError, match="search has no argument 'top_k': it takes invalid_values, k, "):
        index.search("red", top_k=3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 60, repr("x" * 60)),
        ("x" * 61, repr("x" * 59 + "…")),
        (b"12345", "<5 bytes>"),
        (np.zeros((2, 3), np.float32), "<float32 [2, 3]>"),
        (torch.zeros(4), "<float32 [4]>"),
        ([1, 2, 3], "[1, 2, 3]"),
        (list(range(100)), "[0, 1, 2, 3, 4, …]"),
        ({"bytes": b"1", "path": None}, "{'bytes': <1 bytes>, 'path': None}"),
        (10**70, "<int>"),
    ],
)
def test_values_are_cut_short(value, text):
    assert shown(value) == text


def test_a_saved_index_is_opened_and_data_is_none(tmp_path):
    EmbeddingIndex(np.eye(3), [{"name": "a"}, {"name": "b"}, {"name": "c"}]).save(tmp_path / "index")
    assert holds_embeddings(tmp_path / "index")
    assert open_embeddings(tmp_path / "index").search(np.eye(3)[1], k=1)[0].row == {"name": "b"}
    assert not holds_embeddings(tmp_path) and not holds_embeddings("org/data")
    (tmp_path / "index" / "embedding_index.json").write_text("[]")
    with pytest.raises(ValueError, match="damaged"):
        holds_embeddings(tmp_path / "index")
