"""Matryoshka prefixes against their definition."""

import pytest
import torch
import torch.nn.functional as F

from hf_encoders.losses.contrastive import InfoNCELoss, SigmoidLoss
from hf_encoders.losses.matryoshka import MatryoshkaLoss

pytestmark = pytest.mark.numeric


def units(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


def test_matryoshka_is_the_sum_over_prefixes():
    embeds = {"text": units(4, 6), "image": units(4, 6)}
    negatives = {"image": units(3, 6)}
    ids = {"text": torch.tensor([0, 0, 1, 2]), "image": torch.arange(4)}
    arguments = {"ids": ids, "negative_ids": {"image": torch.arange(3)}}
    inner = InfoNCELoss()
    output = MatryoshkaLoss(inner, [2, 6], weights=[0.5, 1])(embeds, 0.1, negatives=negatives, **arguments)
    cut, cut_negatives = (
        {name: F.normalize(rows[:, :2], dim=-1) for name, rows in sides.items()} for sides in (embeds, negatives)
    )
    short = inner(cut, 0.1, negatives=cut_negatives, **arguments).loss
    whole = inner(embeds, 0.1, negatives=negatives, **arguments).loss
    torch.testing.assert_close(output.loss, 0.5 * short + whole)
    torch.testing.assert_close(output.parts, {"text-image@2": short, "text-image@6": whole})
    assert MatryoshkaLoss(inner, [2, 6])(embeds, 0.1).loss > output.loss - whole
    assert [name for name, _ in MatryoshkaLoss(SigmoidLoss(), [2]).named_parameters()] == ["loss.bias"]
    with pytest.raises(ValueError, match="prefix of 8 is longer than the embeddings of 'text' \\(6\\)"):
        MatryoshkaLoss(inner, [8])(embeds, 0.1)


@pytest.mark.parametrize(
    ("dims", "weights", "message"),
    [
        ([], None, "dims must be different sizes of at least 1, got \\[\\]"),
        ([4, 4], None, "dims must be different sizes"),
        ([0], None, "dims must be different sizes"),
        ([4, 8], [1], "weights must be a positive number for each of \\[4, 8\\], got \\[1\\]"),
        ([4], [0], "weights must be a positive number"),
    ],
)
def test_bad_prefixes(dims, weights, message):
    with pytest.raises(ValueError, match=message):
        MatryoshkaLoss(InfoNCELoss(), dims, weights)
