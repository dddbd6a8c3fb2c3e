"""Recall over k: at each k that of the metrics, and beside it what a random order reaches."""

import itertools

import numpy as np
import pytest
import torch

from hf_encoders.evaluation.embedded_columns import EmbeddedColumns
from hf_encoders.evaluation.recall_curves import chance_of_ranks, recall_curves
from hf_encoders.evaluation.tasks import retrieval

CAPTIONS = ["a red chair", "a blue chair", "a green sofa", "a green sofa", "two lamps"]
OWNERS = {"text": np.array([0, 1, 2, 4, 4]), "image": np.array([0, 1, 2, 4])}  # row 3 was skipped, row 4 has two texts


def embedded(captions=CAPTIONS, owners=OWNERS):
    generator = torch.Generator().manual_seed(0)
    embeds = {name: torch.randn(len(rows), 3, generator=generator) for name, rows in owners.items()}
    return EmbeddedColumns(embeds, owners, list(captions), np.ones(5, dtype=bool))


def test_the_recall_at_k_is_that_of_the_metrics():
    split = embedded()
    metrics = retrieval(split)
    curves = recall_curves(split)
    assert [(curve.query, curve.found) for curve in curves] == [("text", "image"), ("image", "text")]
    for curve, candidates in zip(curves, (4, 5), strict=True):
        assert curve.ks == list(range(1, candidates + 1)) and curve.recall[-1] == curve.chance[-1] == 1
        assert curve.recall[0] == metrics[f"retrieval/{curve.query}_to_{curve.found}_recall@1"]


def test_guessing_knows_how_many_candidates_are_right():
    """Of four images two are right for "a green sofa"; of five texts three are right for row 4, two for row 2."""
    to_images, to_texts = recall_curves(embedded())
    assert to_images.chance[0] == pytest.approx((1 + 1 + 2 + 2 + 1) / 5 / 4)
    assert to_texts.chance[0] == pytest.approx((1 + 1 + 2 + 3) / 4 / 5)


@pytest.mark.parametrize("right", [1, 2, 3])
def test_the_recall_of_guessing_is_the_mean_over_all_orders(right):
    candidates = 4
    ranks = []
    for order in itertools.permutations(range(candidates)):
        first = min(order.index(item) for item in range(right))
        ranks.append(1 + first)  # the wrong ones before the first right one
    expected = [np.mean(np.array(ranks) <= k) for k in range(1, candidates + 1)]
    np.testing.assert_allclose(chance_of_ranks([right], candidates), expected)


def test_of_many_candidates_some_k_are_taken():
    rows = np.arange(1000)
    split = embedded([f"text {row}" for row in rows], {"text": rows, "image": rows})
    curve = recall_curves(split)[0]
    assert len(curve.ks) <= 200 and (curve.ks[0], curve.ks[-1]) == (1, 1000) and sorted(set(curve.ks)) == curve.ks
    np.testing.assert_allclose(curve.chance, np.array(curve.ks) / 1000)
