"""Vectors of every kind grow and shrink: what is found is what an index of the same rows finds."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from hf_encoders.search import choosing
from hf_encoders.search.array_vectors import ArrayVectors
from hf_encoders.search.choosing import searchable
from hf_encoders.search.faiss_vectors import FaissVectors
from tests.helpers.unit_rows import unit_rows
from tests.search.test_faiss_vectors import KINDS

pytestmark = pytest.mark.numeric
ARRAYS = [("arrays", precision) for precision in ("float32", "float16", "int8", "binary")]
ROWS, QUERIES = unit_rows(600), unit_rows(8, seed=1)


def made(kind, precision, rows):
    if kind == "arrays":
        return ArrayVectors(rows, precision)
    return FaissVectors(rows, kind, precision, 100)  # all candidates


def loaded(kind, vectors, parent):
    folder = Path(tempfile.mkdtemp(dir=parent))
    path = folder / vectors.save(folder)
    if kind == "arrays":
        return ArrayVectors.load(path, vectors.precision, vectors.trained_rows)
    options = vectors.rescore_multiplier, vectors.trained_rows
    return FaissVectors.load(path, vectors.index_type, vectors.precision, *options)


@pytest.mark.parametrize("reload", [False, True])
@pytest.mark.parametrize(("kind", "precision"), KINDS + ARRAYS)
def test_rows_are_added_and_removed(kind, precision, reload, tmp_path):
    vectors = made(kind, precision, ROWS[:400])
    if reload:
        vectors = loaded(kind, vectors, tmp_path)
    vectors.add(ROWS[400:590])
    vectors.add(ROWS[590:])
    removed = np.random.RandomState(3).rand(600) < 0.3
    removed[[5, 599]] = True
    vectors.remove(removed)
    left = ROWS[~removed]
    assert vectors.shape == left.shape
    for one in (vectors, loaded(kind, vectors, tmp_path)):
        scores, numbers = one.search(left, 1)
        assert (numbers[:, 0] == np.arange(len(left))).mean() > 0.99  # each finds itself
        assert scores.min() > 0.9  # ranges of 400 rows cut some values of the others off
        assert set(one.search(QUERIES, len(left) + 9)[1].ravel().tolist()) <= {-1, *range(len(left))}
    again = np.arange(len(left)) % 2 == 0
    vectors.remove(again)
    vectors.add(ROWS[5:6])
    assert len(vectors) == (~again).sum() + 1
    among = np.zeros(len(vectors), bool)
    among[[0, -1]] = True
    assert vectors.search(ROWS[5:6], 9, among)[1].tolist() == [[len(vectors) - 1, 0]]


@pytest.mark.parametrize(("kind", "precision"), KINDS + ARRAYS)
def test_all_can_be_removed_and_others_added(kind, precision, tmp_path):
    vectors = made(kind, precision, ROWS[:50])
    vectors.remove(np.ones(50, bool))
    assert len(vectors) == 0 and vectors.search(QUERIES, 3)[1].shape == (8, 0)
    for one in (vectors, loaded(kind, vectors, tmp_path)):
        one.add(ROWS[50:90])
        assert one.search(ROWS[50:90], 1)[1][:, 0].tolist() == list(range(40))


@pytest.mark.parametrize(("kind", "precision"), [("exact", "int8"), ("exact", "float16"), ("arrays", "int8")])
def test_taking_rows_out_changes_no_score(kind, precision, tmp_path):
    vectors = made(kind, precision, ROWS)
    vectors.remove(np.arange(600) % 3 == 0)
    before = vectors.search(QUERIES, 10)
    after = loaded(kind, vectors, tmp_path).search(QUERIES, 10)
    np.testing.assert_array_equal(before[1], after[1])
    np.testing.assert_allclose(before[0], after[0], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "precision"), [("exact", "int8"), ("hnsw", "int8"), ("arrays", "int8"), ("ivf", "int8")]
)
def test_ranges_follow_an_index_that_grows(kind, precision):
    """Those of the first rows alone would cut off nearly all values of the others."""
    narrow = np.concatenate([np.ones((40, 32)), np.full((40, 32), 1e-3)], 1).astype(np.float32)
    narrow = narrow / np.linalg.norm(narrow, axis=1, keepdims=True) + unit_rows(40) * 1e-3
    vectors = made(kind, precision, narrow)
    vectors.remove(np.arange(40) == 7)
    vectors.add(ROWS)
    assert vectors.trained_rows == 639
    scores, numbers = vectors.search(ROWS, 1)
    assert (numbers[:, 0] == np.arange(39, 639)).mean() > 0.99
    np.testing.assert_allclose(scores[numbers[:, 0] >= 39], 1, atol=2e-2)


@pytest.mark.parametrize(("kind", "precision"), [("arrays", "float32"), ("exact", "int8"), ("hnsw", "float32")])
def test_equal_rows_come_in_their_order(kind, precision):
    vectors = made(kind, precision, np.eye(8, dtype=np.float32)[[0, 1, 0, 2, 0]])
    numbers = vectors.search(np.eye(8, dtype=np.float32)[:1], 5)[1][0].tolist()
    assert numbers[:3] == [0, 2, 4] and sorted(numbers[3:]) == [1, 3]


def test_large_collections_become_hnsw(monkeypatch):
    monkeypatch.setattr(choosing, "EXACT_ROWS", 50)
    assert searchable(unit_rows(50)).index_type == "exact"
    assert searchable(unit_rows(51)).index_type == "hnsw"
    assert searchable(unit_rows(51), precision="int8").index_type == "exact"
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert searchable(unit_rows(51)).index_type == "exact"
