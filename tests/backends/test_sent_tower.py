"""A tower that was sent to another process computes what it did, with what has changed since."""

import pytest
import torch

from hf_encoders import load_encoder
from hf_encoders.backends.exported_files import random_batch
from hf_encoders.backends.sent_tower import Receiver, SentTower
from tests.helpers.any_encoders import KINDS, save_encoder
from tests.helpers.multimodal_models import tiny_model


def received(tower):
    sent = SentTower(tower.model)
    return Receiver(sent.weights(), "cpu").tower(sent.without_weights(tower))


def computes_the_same(tower, other):
    batch = random_batch(tower, 3)
    with torch.no_grad():  # attention of torch.nn sums in another order where no gradients are asked for
        return torch.allclose(tower.embed(batch), other.embed(batch), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_encoder(kind, tmp_path):
    encoder = load_encoder(save_encoder(kind, tmp_path / "model"))
    for name in encoder.towers:
        assert computes_the_same(encoder.tower(name), received(encoder.tower(name)))


def test_the_rest_is_small_and_holds_no_weights():
    tower = tiny_model().tower("depth")
    sent = SentTower(tower.model)
    assert len(sent.without_weights(tower)) < 200_000 and sent.without_weights(tower) == sent.without_weights(tower)
    other = Receiver(sent.weights(), "cpu").tower(sent.without_weights(tower))
    assert not any(parameter.requires_grad for parameter in other.model.parameters())


def test_changed_weights_are_noticed():
    model = tiny_model()
    sent = SentTower(model)
    assert sent.has_weights_of(model)
    with torch.no_grad():
        model.text_projection.weight.mul_(2)
    assert not sent.has_weights_of(model) and not sent.has_weights_of(tiny_model())


def test_a_processor_that_has_changed_is_sent():
    model = tiny_model()
    sent = SentTower(model)
    before = sent.without_weights(model.tower("depth"))
    model.depth_processor.value_range = [0.0, 7.0]
    after = sent.without_weights(model.tower("depth"))
    assert before != after
    assert Receiver(sent.weights(), "cpu").tower(after).processor.value_range == [0.0, 7.0]


def test_what_cannot_be_sent_is_told():
    model = tiny_model()
    model.text_projection.register_forward_hook(lambda module, inputs, output: output)
    with pytest.raises(ValueError, match="the model cannot be sent to other processes: "):
        SentTower(model).without_weights(model.tower("text"))
