"""The nearest vectors are the same with FAISS and with NumPy; approximate indexes come close."""

import sys

import numpy as np
import pytest

from hf_encoders.search import vectors as module
from hf_encoders.search.vectors import FloatVectors

pytestmark = pytest.mark.numeric


def unit_rows(count, dimensions=16, seed=0):
    rows = np.random.RandomState(seed).randn(count, dimensions).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)


def test_faiss_finds_what_sorting_all_scores_finds():
    rows, queries = unit_rows(500), unit_rows(7, seed=1)
    scores, indices = FloatVectors(rows).search(queries, 20)
    expected = np.sort(queries @ rows.T, axis=1)[:, ::-1][:, :20]
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(queries @ rows.T, indices, 1), expected, atol=1e-5)


@pytest.mark.parametrize(("count", "k"), [(500, 20), (500, 1), (3, 3), (3, 50), (130, 129)])
def test_numpy_finds_the_same_in_chunks(count, k, monkeypatch):
    rows, queries = unit_rows(count), unit_rows(7, seed=1)
    scores, indices = FloatVectors(rows).search(queries, k)
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(module, "_ROWS_PER_CHUNK", 64)
    monkeypatch.setattr(module, "_QUERIES_PER_CHUNK", 3)
    numpy_scores, numpy_indices = FloatVectors(rows).search(queries, k)
    np.testing.assert_array_equal(numpy_indices, indices)
    np.testing.assert_allclose(numpy_scores, scores, atol=1e-6)


@pytest.mark.parametrize("index_type", ["hnsw", "ivf"])
def test_approximate_indexes_find_most_and_are_saved(index_type, tmp_path):
    rows, queries = unit_rows(2_000), unit_rows(50, seed=1)
    exact = FloatVectors(rows).search(queries, 10)[1]
    vectors = FloatVectors(rows, index_type)
    indices = vectors.search(queries, 10)[1]
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, indices, strict=True)])
    assert found > 0.7
    loaded = FloatVectors.load(tmp_path / vectors.save(tmp_path), index_type)
    assert (loaded.shape, loaded.index_type) == ((2_000, 16), index_type)
    np.testing.assert_array_equal(loaded.search(queries, 10)[1], indices)


def test_hnsw_finds_many_rows():
    """FAISS alone looks at 16 candidates and gives no more."""
    assert (FloatVectors(unit_rows(300), "hnsw").search(unit_rows(1, seed=1), 200)[1] >= 0).all()


def test_large_collections_become_hnsw(monkeypatch):
    monkeypatch.setattr(module, "EXACT_ROWS", 50)
    assert FloatVectors(unit_rows(50)).index_type == "exact"
    assert FloatVectors(unit_rows(51)).index_type == "hnsw"
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert FloatVectors(unit_rows(51)).index_type == "exact"


@pytest.mark.parametrize("index_type", ["hnsw", "ivf"])
def test_without_faiss_approximate_search_says_what_to_install(index_type, without_faiss):
    with pytest.raises(ValueError, match=r"pip install 'hf-encoders\[search\]'"):
        FloatVectors(unit_rows(5), index_type)


def test_building_shows_no_progress_bar(capfd):
    FloatVectors(unit_rows(5))
    assert capfd.readouterr().err == ""


def test_bytes_in_memory(tmp_path, monkeypatch):
    rows = unit_rows(300)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert [FloatVectors(array, kind).nbytes for array in (rows, mapped) for kind in ("exact", "ivf")] == [
        rows.nbytes
    ] * 4
    assert FloatVectors.in_place(mapped).nbytes == 0
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert FloatVectors(rows).nbytes == rows.nbytes
