"""Smaller vectors find nearly the same, the same with FAISS and with NumPy, and rescoring finds more."""

import sys

import numpy as np
import pytest

from hf_encoders.search import quantized_vectors as module
from hf_encoders.search.quantized_vectors import QuantizedVectors
from hf_encoders.search.quantizer import Quantizer
from hf_encoders.search.vectors import FloatVectors

pytestmark = pytest.mark.numeric


def unit_rows(count, dimensions=64, seed=0):
    rows = np.random.RandomState(seed).randn(count, dimensions).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(params=["faiss", "numpy"])
def search_library(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setitem(sys.modules, "faiss", None)


def overlap(found, exact):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)])


@pytest.mark.parametrize(
    ("precision", "at_least", "off", "size"),
    [("float16", 0.99, 1e-3, 128), ("int8", 0.97, 1e-2, 64), ("binary", 0.4, 1e-2, 64 + 8)],
)
def test_most_of_the_nearest_are_found(precision, at_least, off, size, search_library):
    rows, queries = unit_rows(1_000), unit_rows(20, seed=1)
    vectors = QuantizedVectors(rows, precision)
    assert vectors.nbytes == 1_000 * size
    scores, indices = vectors.search(queries, 10)
    assert overlap(indices, FloatVectors(rows).search(queries, 10)[1]) > at_least
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ rows.T, indices, 1), atol=off)


@pytest.mark.parametrize("dimensions", [64, 21, 4])
def test_scores_are_exactly_those_of_the_stored_vectors(dimensions, search_library):
    rows, queries = unit_rows(500, dimensions), unit_rows(5, dimensions, seed=1)
    scores, indices = QuantizedVectors(rows, "int8").search(queries, 500)
    quantizer = Quantizer.calibrate(rows, "int8")
    expected = queries @ quantizer.dequantize(quantizer.quantize(rows)).T
    rounding = (dimensions + 8) * np.finfo(np.float32).eps  # at most, of so many additions, and of decoding
    np.testing.assert_allclose(scores, np.take_along_axis(expected, indices, 1), rtol=0, atol=rounding)
    assert (np.sort(indices) == np.arange(500)).all()


def test_binary_candidates_have_the_fewest_signs_that_differ(search_library, monkeypatch):
    monkeypatch.setattr("hf_encoders.search.vectors._ROWS_PER_CHUNK", 64)
    rows, queries = unit_rows(300, 21), unit_rows(6, 21, seed=1)
    stored = Quantizer.calibrate(rows, "int8")
    signs = stored.dequantize(stored.quantize(rows)) > 0
    assert np.mean(signs != (rows > 0)) < 0.01  # those within half a step of 0
    differing = (signs != (queries > 0)[:, None]).sum(2)
    candidates = QuantizedVectors(rows, "binary")._candidates(queries, 40)
    found = np.sort(np.take_along_axis(differing, candidates, 1))
    np.testing.assert_array_equal(found, np.sort(differing)[:, :40])


def test_more_candidates_find_more():
    rows, queries = unit_rows(2_000), unit_rows(30, seed=1)
    exact = FloatVectors(rows).search(queries, 10)[1]
    shares = [overlap(QuantizedVectors(rows, "binary", count).search(queries, 10)[1], exact) for count in (1, 4, 16)]
    assert shares[0] + 0.2 < shares[1] < shares[2]
    everything = QuantizedVectors(rows, "binary", 200).search(queries, 10)
    np.testing.assert_array_equal(everything[1], QuantizedVectors(rows, "int8").search(queries, 10)[1])


@pytest.mark.parametrize("precision", ["float16", "int8", "binary"])
def test_saved_vectors_come_back_the_same(precision, search_library, tmp_path):
    rows, queries = unit_rows(400), unit_rows(5, seed=1)
    vectors = QuantizedVectors(rows, precision, 2)
    loaded = QuantizedVectors.load(tmp_path / vectors.save(tmp_path), precision, 2)
    assert loaded.shape == (400, 64)
    (found, rows_found), (expected, rows_expected) = (one.search(queries, 7) for one in (loaded, vectors))
    np.testing.assert_array_equal(rows_found, rows_expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # what is read from a file lies elsewhere in memory
    (tmp_path / "again").mkdir()
    again = loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / again).read_bytes() == (tmp_path / again).read_bytes()


def test_loaded_binary_vectors_leave_their_eight_bits_in_the_file(tmp_path):
    vectors = QuantizedVectors(unit_rows(400), "binary")
    path = tmp_path / vectors.save(tmp_path)
    loaded = QuantizedVectors.load(path, "binary", 4)
    assert (vectors.nbytes, loaded.nbytes) == (400 * (8 + 64), 400 * 8)
    with open("/proc/self/maps") as file:
        assert str(path) in file.read()


def test_binary_vectors_in_place_are_rescored_where_they_lie(search_library, tmp_path):
    rows, queries = unit_rows(400), unit_rows(5, seed=1)
    np.save(tmp_path / "rows.npy", rows)
    vectors = QuantizedVectors.in_place(np.load(tmp_path / "rows.npy", mmap_mode="r"), 40)
    assert vectors.nbytes == 400 * 8 and isinstance(vectors._codes, np.memmap)
    loaded = QuantizedVectors.load(tmp_path / vectors.save(tmp_path), "binary", 40)
    expected = FloatVectors(rows).search(queries, 10)  # for all 400 are rescored, by what they are
    for found in (vectors, loaded):
        scores, indices = found.search(queries, 10)
        np.testing.assert_array_equal(indices, expected[1])
        np.testing.assert_allclose(scores, expected[0], atol=1e-6)
    empty = QuantizedVectors.in_place(rows[:0], 4)
    assert (empty.nbytes, empty.search(queries, 3)[0].shape) == (0, (5, 0))


def test_what_is_small_or_empty_is_searched_too(search_library):
    for precision in ("float16", "int8", "binary"):
        one = QuantizedVectors(unit_rows(1), precision)
        scores, indices = one.search(unit_rows(1), 10)
        assert indices.tolist() == [[0]]
        assert scores[0, 0] == pytest.approx(1, abs=1e-3)
        assert QuantizedVectors(unit_rows(0), precision).search(unit_rows(2), 3)[0].shape == (2, 0)
        assert QuantizedVectors(unit_rows(9), precision).search(unit_rows(0), 3)[0].shape == (0, 3)


def test_signs_that_tell_nothing_are_refused(monkeypatch):
    monkeypatch.setattr(module, "_ROWS_A_CHUNK", 3)
    positive = np.abs(unit_rows(5))
    with pytest.raises(ValueError, match="all 5 embeddings have the same signs: .* use int8"):
        QuantizedVectors(positive, "binary")
    # So few are all rescored, and equal ones are all as good.
    assert QuantizedVectors(positive, "binary", 5).search(positive[2:3], 1)[1].item() == 2
    assert len(QuantizedVectors(positive[[0] * 9], "binary")) == 9


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "int4"}, "one of float32, float16, int8, binary, got 'int4'"),
        ({"precision": "binary", "rescore_multiplier": 0}, "rescore_multiplier must be at least 1, got 0"),
    ],
)
def test_options_that_do_not_exist_are_said(options, says):
    with pytest.raises(ValueError, match=says):
        QuantizedVectors(unit_rows(5), **options)
