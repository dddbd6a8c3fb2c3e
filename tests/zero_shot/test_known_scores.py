"""The scores of "known": their formulas, and what they do not depend on."""

import math

import pytest
import torch

from hf_encoders.zero_shot import KNOWN_SCORES, label_scores

pytestmark = pytest.mark.numeric

COSINES = torch.tensor([[0.3, 0.1], [-0.2, 0.5]], dtype=torch.float64)
BACKGROUND = torch.tensor([[0.2], [0.6]], dtype=torch.float64)


def softmax(row, words):
    total = sum(math.exp(word / 0.1) for word in words)
    return [math.exp(one / 0.1) / total for one in row]


@pytest.mark.parametrize("temperature", [0.1, torch.tensor(0.1, dtype=torch.float64)])
def test_the_scores_are_a_cosine_and_two_softmaxes(temperature):
    rows, others = COSINES.tolist(), BACKGROUND.tolist()
    expected = {
        "cosine": rows,
        "softmax": [softmax(row, row) for row in rows],
        "background": [softmax(row, row + more) for row, more in zip(rows, others, strict=True)],
    }
    assert set(expected) == set(KNOWN_SCORES)
    for score, values in expected.items():
        found = label_scores(score, COSINES, BACKGROUND, temperature)
        assert found.tolist() == [pytest.approx(row, rel=1e-12) for row in values]


def test_without_background_words_it_is_the_softmax_over_the_labels():
    none = BACKGROUND[:, :0]
    found, softmax_of_labels = (label_scores(score, COSINES, none, 0.1) for score in ("background", "softmax"))
    torch.testing.assert_close(found, softmax_of_labels)


def test_a_label_that_becomes_background_changes_no_score_of_the_others():
    """So a threshold holds for few labels and for many; that of a softmax over the labels alone does not."""
    fewer = torch.cat([COSINES[:, 1:], BACKGROUND], dim=1)
    all_labels = label_scores("background", COSINES, BACKGROUND, 0.1)[:, :1]
    torch.testing.assert_close(label_scores("background", COSINES[:, :1], fewer, 0.1), all_labels)
    assert label_scores("softmax", COSINES[:, :1], fewer, 0.1).tolist() == [[1], [1]]
