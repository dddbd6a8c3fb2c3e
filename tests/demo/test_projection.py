"""A map has a place for every row, near those that are alike."""

import numpy as np
import pytest

from hf_encoders.demo.projection import MOST_POINTS, project


def clusters(count, dimensions=16):
    """Unit vectors around two directions, in turn."""
    generator = np.random.default_rng(0)
    centres = np.eye(2, dimensions)
    made = centres[np.arange(count) % 2] + 0.05 * generator.normal(size=(count, dimensions))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 40])
def test_every_row_has_a_place(count):
    rows, places = project(clusters(count))
    assert rows == list(range(count))
    assert places.shape == (count, 2) and np.isfinite(places).all()
    assert places.min() >= 0 and places.max() <= 1


def test_what_is_alike_is_near():
    _, places = project(clusters(40))
    first, second = places[::2], places[1::2]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    within = max(np.linalg.norm(side - side.mean(0), axis=1).mean() for side in (first, second))
    assert between > 2 * within


def test_one_dimension_and_equal_rows_are_no_error():
    for vectors in (np.ones((12, 1), np.float32), np.ones((5, 1), np.float32), np.tile(clusters(1), (12, 1))):
        _, places = project(vectors)
        assert np.isfinite(places).all()


def test_of_many_rows_some_are_shown(monkeypatch):
    monkeypatch.setattr("hf_encoders.demo.projection.MOST_POINTS", 20)
    rows, places = project(clusters(1000))
    assert len(rows) == len(places) == 20
    assert (rows[0], rows[-1]) == (0, 999) and MOST_POINTS > 20
