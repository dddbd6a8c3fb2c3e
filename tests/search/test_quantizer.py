"""Quantised embeddings are as near as they can be, always by the same ranges, and come back from their file."""

import logging

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sentence_transformers.util.quantization import quantize_embeddings

from hf_encoders.search.quantizer import PRECISIONS, Quantizer

pytestmark = pytest.mark.numeric

ROWS = np.random.RandomState(0).randn(300, 20).astype(np.float32)
BYTES = {"float32": 80, "float16": 40, "int8": 20, "uint8": 20, "binary": 3, "ubinary": 3}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_codes_have_sentence_transformers_layout(precision):
    quantizer = Quantizer.calibrate(ROWS, precision)
    codes = quantizer.quantize(ROWS)
    assert codes.nbytes == 300 * BYTES[precision]
    if precision == "float16":  # which that lacks
        np.testing.assert_array_equal(codes, ROWS.astype(np.float16))
        return
    theirs = quantize_embeddings(ROWS, precision, ranges=quantizer.ranges)
    assert codes.dtype == theirs.dtype
    # Theirs is the value below, ours the nearest one.
    assert set(np.unique(codes.astype(np.float32) - theirs)) == ({0, 1} if precision.endswith("int8") else {0})


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_eight_bits_are_off_by_half_a_step(precision):
    quantizer = Quantizer.calibrate(ROWS, precision)
    errors = np.abs(quantizer.dequantize(quantizer.quantize(ROWS)) - ROWS)
    np.testing.assert_allclose(quantizer.steps, (ROWS.max(0) - ROWS.min(0)) / 255, rtol=1e-6)
    assert (errors <= 0.5001 * quantizer.steps).all()
    assert errors.mean() == pytest.approx(quantizer.steps.mean() / 4, rel=0.05)
    again = quantizer.dequantize(quantizer.quantize(ROWS))
    np.testing.assert_array_equal(quantizer.quantize(again), quantizer.quantize(ROWS))


def test_other_precisions_come_back_too():
    for precision, expected in {
        "float32": ROWS,
        "float16": ROWS.astype(np.float16),
        "binary": np.where(ROWS > 0, 1, -1) / 20**0.5,
        "ubinary": np.where(ROWS > 0, 1, -1) / 20**0.5,
    }.items():
        quantizer = Quantizer(precision, 20)
        found = quantizer.dequantize(quantizer.quantize(torch.tensor(ROWS)))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert found.dtype == np.float32


def test_a_row_does_not_depend_on_its_neighbours_and_chunks(monkeypatch):
    quantizer = Quantizer.calibrate(ROWS, "int8")
    together = quantizer.quantize(ROWS)
    np.testing.assert_array_equal(quantizer.quantize(ROWS[7:8]), together[7:8])
    monkeypatch.setattr("hf_encoders.search.quantizer._ROWS_A_CHUNK", 64)
    np.testing.assert_array_equal(quantizer.quantize(ROWS), together)
    assert quantizer.quantize(ROWS[:0]).shape == (0, 20)


def test_values_outside_the_ranges_are_clipped_and_counted(caplog):
    quantizer = Quantizer("uint8", 2, np.array([[-1, 5], [1, 5]]))
    with caplog.at_level(logging.WARNING):
        assert quantizer.quantize([[-1, 5], [1, 5]]).tolist() == [[0, 0], [255, 0]]
    assert not caplog.records
    outside = [[-9, 5], [9, 5], [0.25, 5.5], [0.5, 5]]
    codes = quantizer.quantize(outside)
    assert codes[:, 0].tolist() == [0, 255, 159, 191]
    assert quantizer.dequantize(codes)[:, 1].tolist() == [5] * 4  # a constant dimension has one value
    assert quantizer.clipped_share(outside) == 3 / 8
    assert "37.5% of the values lie outside" in caplog.text
    half = Quantizer("float16", 1)
    assert half.quantize([[1e6]]).tolist() == [[65504]]
    assert half.clipped_share([[1e6], [1]]) == 0.5
    assert Quantizer("binary", 1).clipped_share([[1e6]]) == 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_holds_codes_and_ranges(precision, tmp_path):
    quantizer = Quantizer.calibrate(ROWS, precision)
    quantizer.save(quantizer.quantize(ROWS), tmp_path / "e.safetensors")
    loaded, codes = Quantizer.load(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(codes, quantizer.quantize(ROWS))
    later = 3 * ROWS[:9]  # some of it outside
    np.testing.assert_array_equal(loaded.quantize(later), quantizer.quantize(later))
    assert (tmp_path / "e.safetensors").stat().st_mode & 0o044
    loaded.save(codes, tmp_path / "same.safetensors")
    assert (tmp_path / "same.safetensors").read_bytes() == (tmp_path / "e.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        quantizer.save(codes, tmp_path / "e.safetensors")


def test_ranges_do_not_follow_the_callers_array():
    given = np.array([[0.0], [1.0]], np.float32)
    quantizer = Quantizer("uint8", 1, given)
    given[1] = 100
    assert quantizer.quantize([[1.0]]).tolist() == [[255]]
    with pytest.raises(ValueError, match="read-only"):
        quantizer.ranges[0] = 5


def test_few_rows_to_calibrate_by_are_said(caplog):
    with caplog.at_level(logging.WARNING):
        Quantizer.calibrate(ROWS[:19], "int8")
    assert "ranges of 19 embeddings only: about 10% of later values are clipped" in caplog.text
    caplog.clear()
    Quantizer.calibrate(ROWS[:1], "binary")
    Quantizer.calibrate(ROWS[:100], "int8")
    assert not caplog.records


NAN = np.array([[1, 2], [3, np.nan]])


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: Quantizer("int4", 2), "float32, float16, int8, uint8, binary, ubinary, got 'int4'"),
        (lambda: Quantizer("binary", 0), "dimensions must be at least 1"),
        (lambda: Quantizer("int8", 2), "needs ranges: use Quantizer.calibrate"),
        (lambda: Quantizer("binary", 2, np.zeros((2, 2))), "'binary' has no ranges"),
        (lambda: Quantizer("int8", 2, np.zeros((2, 3))), r"ranges of shape \[2, 3\], expected \[2, 2\]"),
        (lambda: Quantizer("int8", 2, [[0, 1], [1, 0]]), "dimension 1 has no range: from 1.0 to 0.0"),
        (lambda: Quantizer("int8", 1, [[0], [np.inf]]), "dimension 0 has no range"),
        (lambda: Quantizer.calibrate(ROWS[:1], "int8"), "1 embedding.s. give no ranges"),
        (lambda: Quantizer.calibrate(NAN, "int8"), "embedding 1 holds NaN"),
        (lambda: Quantizer.calibrate([[1e300]], "float16"), "embedding 0 holds .* too large"),
        (lambda: Quantizer("binary", 2).quantize(NAN), "embedding 1 holds NaN"),
        (lambda: Quantizer("binary", 3).quantize(ROWS), "of 20 dimensions, the quantizer is for 3"),
        (lambda: Quantizer("binary", 3).quantize([1.0, 2, 3]), r"shape \[3\], expected \[N, D\]"),
        (lambda: Quantizer("binary", 20).dequantize(ROWS), r"20 dimensions has \[N, 3\] of int8"),
        (lambda: Quantizer("float16", 20).steps, "has no steps"),
    ],
)
def test_what_cannot_be_quantised_is_said(act, says):
    with pytest.raises(ValueError, match=says):
        act()


def test_another_file_is_said_in_one_line(tmp_path):
    path = tmp_path / "e.safetensors"
    for name, said in [
        ("embeddings", None),
        ("embeddings", "["),
        ("embeddings", '["int8", 20]'),
        ("embeddings", '{"precision": "int8", "dimensions": 20}'),
        ("embeddings", '{"precision": "float32", "dimensions": "20"}'),
        ("embeddings", '{"precision": "binary", "dimensions": 20}'),
        ("other", '{"precision": "float32", "dimensions": 20}'),
    ]:
        save_file({name: ROWS}, path, metadata=said and {"quantizer": said})
        with pytest.raises(ValueError, match=r"e.safetensors: not a file of quantized embeddings \("):
            Quantizer.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not a file of quantized embeddings"):
        Quantizer.load(path)
    with pytest.raises(FileNotFoundError):
        Quantizer.load(tmp_path / "none.safetensors")
