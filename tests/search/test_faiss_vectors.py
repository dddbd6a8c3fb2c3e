"""FAISS's indexes find most of the nearest, in every precision, in memory and mapped from a file."""

import sys

import faiss
import numpy as np
import pytest

from hf_encoders.search.array_vectors import ArrayVectors
from hf_encoders.search.faiss_vectors import FaissVectors
from tests.helpers.unit_rows import overlap, unit_rows

pytestmark = pytest.mark.numeric
KINDS = [
    ("exact", "float16"),
    ("exact", "int8"),
    ("exact", "binary"),
    ("hnsw", "float32"),
    ("hnsw", "float16"),
    ("hnsw", "int8"),
    ("ivf", "float32"),
    ("ivf", "float16"),
    ("ivf", "int8"),
    ("ivf", "binary"),
]
# At least of random vectors of 64 dimensions, which are hard for signs and cells.
LEAST = {"exact": {"float16": 0.98, "int8": 0.95, "binary": 0.5}, "hnsw": {}, "ivf": {}}
OFF = {"float32": 1e-5, "float16": 1e-3, "int8": 1e-2, "binary": 1e-2}


def exact(rows, queries, k):
    return ArrayVectors(rows).search(queries, k)[1]


@pytest.mark.parametrize(("index_type", "precision"), KINDS)
def test_most_of_the_nearest_are_found_with_their_cosines(index_type, precision, tmp_path):
    rows, queries = unit_rows(2_000), unit_rows(20, seed=1)
    vectors = FaissVectors(rows, index_type, precision)
    scores, numbers = vectors.search(queries, 10)
    assert overlap(numbers, exact(rows, queries, 10)) > LEAST[index_type].get(precision, 0.3)
    assert (np.diff(scores) <= 0).all()
    products = np.take_along_axis(queries @ rows.T, np.maximum(numbers, 0), 1)
    np.testing.assert_allclose(scores[numbers >= 0], products[numbers >= 0], atol=OFF[precision])
    path = tmp_path / vectors.save(tmp_path)
    loaded = FaissVectors.load(path, index_type, precision, vectors.rescore_multiplier)
    assert (loaded.shape, loaded.nbytes, loaded.trained_rows) == ((2_000, 64), 0, vectors.trained_rows)
    np.testing.assert_array_equal(loaded.search(queries, 10)[1], numbers)
    with open("/proc/self/maps") as file:
        assert str(path) in file.read()


@pytest.mark.parametrize(
    ("index_type", "precision", "size"),
    [("exact", "float16", 128), ("exact", "int8", 64), ("exact", "binary", 8 + 8 + 64)]
    + [("hnsw", "float32", 256), ("ivf", "float32", 256), ("ivf", "int8", 64), ("ivf", "binary", 8 + 8 + 64)],
)
def test_bytes_in_memory(index_type, precision, size):
    assert FaissVectors(unit_rows(300), index_type, precision).nbytes == 300 * size


def test_more_candidates_find_more():
    rows, queries = unit_rows(2_000), unit_rows(30, seed=1)
    shares = [
        overlap(FaissVectors(rows, "exact", "binary", count).search(queries, 10)[1], exact(rows, queries, 10))
        for count in (1, 4, 16)
    ]
    assert shares[0] + 0.2 < shares[1] < shares[2]
    everything = FaissVectors(rows, "exact", "binary", 200).search(queries, 10)
    np.testing.assert_array_equal(everything[1], FaissVectors(rows, "exact", "int8").search(queries, 10)[1])


def test_signs_are_about_the_mean():
    """Embeddings of one direction have the same signs about zero, which tell nothing."""
    rows = unit_rows(2_000) / 9 + unit_rows(1, seed=3)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = FaissVectors(rows, "exact", "binary", 16).search(rows[:20], 10)[1]
    assert overlap(found, exact(rows, rows[:20], 10)) > 0.7


@pytest.mark.parametrize("index_type", ["exact", "ivf"])
def test_signs_are_rescored_by_rows_where_they_lie(index_type, tmp_path):
    rows, queries = unit_rows(400), unit_rows(5, seed=1)
    np.save(tmp_path / "rows.npy", rows[:390])
    vectors = FaissVectors(np.load(tmp_path / "rows.npy", mmap_mode="r"), index_type, "binary", 400, in_place=True)
    assert vectors.nbytes == 390 * (8 + 8)
    vectors.add(rows[390:])
    expected = ArrayVectors(rows).search(queries, 10)
    scores, numbers = vectors.search(queries, 10)
    if index_type == "exact":  # all are rescored, by what they are
        np.testing.assert_array_equal(numbers, expected[1])
        np.testing.assert_allclose(scores, expected[0], atol=1e-6)
    vectors.remove(np.arange(400) == numbers[0, 0])
    loaded = FaissVectors.load(tmp_path / vectors.save(tmp_path), index_type, "binary", 400)
    again = loaded.search(queries, 10)
    assert len(loaded) == 399
    found = loaded.search(rows[:1], 1)
    assert found[1].item() == 0 and found[0].item() == pytest.approx(1, abs=1e-2)
    np.testing.assert_allclose(again[0], vectors.search(queries, 10)[0], atol=1e-2 if index_type == "exact" else 2)


@pytest.mark.parametrize(("index_type", "precision"), KINDS)
def test_what_is_small_or_empty_is_searched_too(index_type, precision, tmp_path, capfd):
    scores, numbers = FaissVectors(unit_rows(1), index_type, precision).search(unit_rows(1), 10)
    assert numbers.tolist() == [[0]] and scores.item() == pytest.approx(1, abs=1e-2)
    assert FaissVectors(unit_rows(9), index_type, precision).search(unit_rows(0), 3)[0].shape == (0, 3)
    empty = FaissVectors(unit_rows(0), index_type, precision)
    assert empty.search(unit_rows(2), 3)[0].shape == (2, 0)
    path = tmp_path / empty.save(tmp_path)
    loaded = FaissVectors.load(path, index_type, precision, empty.rescore_multiplier)
    for vectors in (empty, loaded):
        vectors.add(unit_rows(50))
        assert vectors.search(unit_rows(50), 1)[1][:, 0].tolist() == list(range(50))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("index_type", ["hnsw", "ivf"])
def test_many_rows_are_found(index_type):
    """FAISS alone looks at 16 candidates, or one cell, and gives no more."""
    numbers = FaissVectors(unit_rows(300), index_type, "float32").search(unit_rows(1, seed=1), 200)[1]
    assert (numbers >= 0).all()


@pytest.mark.parametrize("share", [0.5, 0.02])
@pytest.mark.parametrize(("index_type", "precision"), KINDS)
def test_some_rows_alone_are_found(index_type, precision, share):
    rows, queries = unit_rows(3_000), unit_rows(9, seed=1)
    among = np.random.RandomState(2).rand(3_000) < share
    numbers = FaissVectors(rows, index_type, precision, 16).search(queries, 10, among)[1]
    assert among[numbers[numbers >= 0]].all()
    expected = np.flatnonzero(among)[exact(rows[among], queries, 10)]
    assert overlap(numbers, expected) > (0.8 if share < 0.1 else 0.3)  # a few are searched exhaustively
    assert (
        FaissVectors(rows, index_type, precision).search(queries, 5, np.arange(3_000) == 77)[1].tolist() == [[77]] * 9
    )


def test_what_needs_faiss_says_how_to_install_it(tmp_path, monkeypatch):
    path = tmp_path / FaissVectors(unit_rows(5), "exact", "int8").save(tmp_path)
    monkeypatch.setitem(sys.modules, "faiss", None)
    for index_type in ("hnsw", "ivf"):
        with pytest.raises(
            ValueError, match=rf"index_type='{index_type}' needs faiss: pip install 'hf-encoders\[search\]'"
        ):
            FaissVectors(unit_rows(5), index_type, "float32")
    with pytest.raises(ValueError, match="precision='int8' in this file needs faiss: pip install"):
        FaissVectors.load(path, "exact", "int8")


def test_where_files_cannot_be_mapped_they_are_read(tmp_path, monkeypatch):
    rows = unit_rows(50)
    path = tmp_path / FaissVectors(rows, "exact", "int8").save(tmp_path)
    read = faiss.read_index

    def refuse(name, flags=0):
        if flags:
            raise RuntimeError("not implemented")
        return read(name)

    monkeypatch.setattr(faiss, "read_index", refuse)
    loaded = FaissVectors.load(path, "exact", "int8")
    assert loaded.nbytes == 50 * 64 and loaded.search(rows, 1)[1][:, 0].tolist() == list(range(50))
    path.write_bytes(b"something else")
    with pytest.raises(RuntimeError):
        FaissVectors.load(path, "exact", "int8")
