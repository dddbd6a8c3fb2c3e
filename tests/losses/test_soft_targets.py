"""Soft targets against their definition."""

import pytest
import torch
import torch.nn.functional as F

from hf_encoders.losses.soft_targets import SoftTargetLoss


def units(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


@pytest.mark.parametrize("is_given", [False, True])
def test_it_is_the_divergence_from_the_likeness_of_the_texts(is_given):
    embeds = {name: units(4, 6) for name in ("text", "image", "depth")}
    texts = units(4, 9) if is_given else embeds["text"]
    wanted = (texts @ texts.T / 0.1).softmax(1)
    parts = {}
    for other in ("image", "depth"):
        for one, two in (("text", other), (other, "text")):
            found = (embeds[one] @ embeds[two].T / 0.2).softmax(1)
            pair = f"text-{other}"
            parts[pair] = parts.get(pair, 0) + (wanted * (wanted / found).log()).sum(1).mean() / 2
    output = SoftTargetLoss(0.1)(embeds, 0.2, texts if is_given else None)
    torch.testing.assert_close(output.parts, parts)
    torch.testing.assert_close(output.loss, (parts["text-image"] + parts["text-depth"]) / 2)


def test_equal_towers_cost_nothing_and_targets_have_no_gradient():
    rows = units(5, 6).requires_grad_()
    output = SoftTargetLoss(0.1)({"text": rows, "image": rows}, 0.1)
    assert output.loss.item() == pytest.approx(0, abs=1e-6)
    texts = units(5, 6).requires_grad_()
    SoftTargetLoss()({"text": rows, "image": units(5, 6)}, 0.1, texts).loss.backward()
    assert rows.grad.abs().sum() > 0 and texts.grad is None


def test_what_does_not_fit_is_refused():
    embeds = {name: units(4, 6) for name in ("text", "image", "depth")}
    with pytest.raises(ValueError, match="target_temperature must be positive, got 0"):
        SoftTargetLoss(0)
    with pytest.raises(ValueError, match="there are 3 texts, and 4 rows"):
        SoftTargetLoss()(embeds, 0.1, units(3, 6))
    with pytest.raises(ValueError, match="the batch has image, depth, the loss is of texts"):
        SoftTargetLoss()({name: embeds[name] for name in ("image", "depth")}, 0.1)
    with pytest.raises(ValueError, match="nothing to compare"):
        SoftTargetLoss(pair_weights={"image-depth": 1})(embeds, 0.1)
