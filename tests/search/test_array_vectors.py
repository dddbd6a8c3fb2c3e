"""Arrays are searched exactly, in chunks, where they lie; without FAISS in fewer bits too."""

import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hf_encoders.search import array_vectors, row_blocks
from hf_encoders.search.array_vectors import ArrayVectors
from hf_encoders.search.choosing import searchable
from hf_encoders.search.quantizer import Quantizer
from tests.helpers.unit_rows import overlap, unit_rows

pytestmark = pytest.mark.numeric
SMALLER = [("float16", 0.99, 1e-3, 128), ("int8", 0.97, 1e-2, 64), ("binary", 0.97, 1e-2, 64)]


@pytest.mark.parametrize(("count", "k"), [(500, 20), (500, 1), (3, 3), (3, 50), (130, 129)])
def test_the_nearest_are_those_of_sorting_all_scores_whatever_the_chunks(count, k, monkeypatch):
    monkeypatch.setattr(row_blocks, "ROWS_PER_PART", 64)
    monkeypatch.setattr(array_vectors, "_QUERIES_PER_CHUNK", 3)
    rows, queries = unit_rows(count, 16), unit_rows(7, 16, seed=1)
    scores, numbers = ArrayVectors(rows).search(queries, k)
    products = queries @ rows.T
    np.testing.assert_allclose(scores, -np.sort(-products, axis=1)[:, :k], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(products, numbers, 1), scores, atol=1e-6)


def test_equal_rows_come_in_their_order():
    rows = np.eye(3, dtype=np.float32)[[0, 1, 0, 0, 2]]
    scores, numbers = ArrayVectors(rows).search(np.eye(3, dtype=np.float32)[:1], 5)
    assert numbers.tolist() == [[0, 2, 3, 1, 4]] and scores.tolist() == [[1, 1, 1, 0, 0]]


@pytest.mark.parametrize(("precision", "at_least", "off", "size"), SMALLER)
def test_fewer_bits_find_most_without_faiss(precision, at_least, off, size, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    rows, queries = unit_rows(1_000), unit_rows(20, seed=1)
    vectors = searchable(rows, precision=precision)
    assert isinstance(vectors, ArrayVectors) and vectors.nbytes == 1_000 * size
    scores, numbers = vectors.search(queries, 10)
    assert overlap(numbers, ArrayVectors(rows).search(queries, 10)[1]) > at_least
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ rows.T, numbers, 1), atol=off)


@pytest.mark.parametrize("dimensions", [64, 21, 4])
def test_scores_are_those_of_the_stored_vectors(dimensions):
    rows, queries = unit_rows(500, dimensions), unit_rows(5, dimensions, seed=1)
    scores, numbers = ArrayVectors(rows, "int8").search(queries, 500)
    quantizer = Quantizer.calibrate(rows, "int8")
    expected = (queries @ quantizer.dequantize(quantizer.quantize(rows)).T).clip(-1, 1)
    rounding = (dimensions + 8) * np.finfo(np.float32).eps  # at most, of so many additions, and of decoding
    np.testing.assert_allclose(scores, np.take_along_axis(expected, numbers, 1), rtol=0, atol=rounding)
    assert (np.sort(numbers) == np.arange(500)).all()


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "binary"])
def test_saved_vectors_are_mapped_and_the_same(precision, tmp_path):
    rows, queries = unit_rows(400), unit_rows(5, seed=1)
    vectors = ArrayVectors(rows, precision)
    path = tmp_path / vectors.save(tmp_path)
    loaded = ArrayVectors.load(path, precision)
    assert loaded.shape == (400, 64) and loaded.nbytes == 0
    with open("/proc/self/maps") as file:
        assert str(path) in file.read()
    (scores, numbers), (expected, expected_numbers) = (one.search(queries, 7) for one in (loaded, vectors))
    np.testing.assert_array_equal(numbers, expected_numbers)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)  # they lie elsewhere in memory
    (tmp_path / "again").mkdir()
    assert (tmp_path / "again" / loaded.save(tmp_path / "again")).read_bytes() == path.read_bytes()


def test_a_mapped_file_is_searched_where_it_lies_and_grows_in_memory(tmp_path):
    rows, queries = unit_rows(400), unit_rows(5, seed=1)
    np.save(tmp_path / "rows.npy", rows[:300])
    for precision in ("float32", "binary"):
        vectors = ArrayVectors(np.load(tmp_path / "rows.npy", mmap_mode="r"), precision, in_place=True)
        assert vectors.nbytes == 0
        for row in rows[300:]:
            vectors.add(row[None])
        assert vectors.nbytes == 100 * 64 * 4 and len(vectors._codes._blocks) < 12
        for one, other in zip(vectors.search(queries, 9), ArrayVectors(rows).search(queries, 9), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        path = tmp_path / vectors.save(tmp_path)
        np.testing.assert_array_equal(load_file(path)["embeddings"], rows)
        assert (
            ArrayVectors.load(path, precision).search(queries, 9)[1].tolist() == vectors.search(queries, 9)[1].tolist()
        )
        path.unlink()


@pytest.mark.parametrize(
    ("stored", "precision", "says"),
    [
        (
            lambda path: Quantizer("float16", 3).save(np.ones((2, 3), np.float16), path),
            "int8",
            "holds float16, not what",
        ),
        (lambda path: save_file({"embeddings": np.ones((2, 3), np.float16)}, path), "float32", "codes of shape"),
        (lambda path: save_file({"other": np.ones((2, 3), np.float32)}, path), "float32", "not a file of embeddings"),
        (lambda path: save_file({"embeddings": np.ones(3, np.float32)}, path), "float32", "not a file of embeddings"),
    ],
)
def test_a_file_of_something_else_is_refused(stored, precision, says, tmp_path):
    stored(tmp_path / "embeddings.safetensors")
    with pytest.raises(ValueError, match=says):
        ArrayVectors.load(tmp_path / "embeddings.safetensors", precision)


def test_bytes_in_memory():
    assert ArrayVectors(unit_rows(300, 16)).nbytes == 300 * 16 * 4
    assert ArrayVectors(unit_rows(300, 16), "float16").nbytes == 300 * 16 * 2
