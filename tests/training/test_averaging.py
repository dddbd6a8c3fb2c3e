"""Averaged weights: how fast they forget, and the statistics of their BatchNorm layers."""

import pytest
import torch
from torch import nn

from hf_encoders.training.averaging import fit_batch_norm, make_averages

pytestmark = pytest.mark.numeric


def test_the_decay_warms_up():
    model = nn.Linear(1, 1, bias=False)
    averages = make_averages(model, decay=0.5)
    shares = []
    for _ in range(12):
        nn.init.zeros_(model.weight)
        averages.update_parameters(model)
        nn.init.ones_(averages.module.weight)
        averages.update_parameters(model)
        shares.append(averages.module.weight.item())
    # The first update takes the weights as they are; the decay of update n is (1 + n) / (10 + n), up to 0.5.
    assert shares[:3] == pytest.approx([2 / 11, 4 / 13, 6 / 15]) and shares[-1] == 0.5


def test_statistics_are_those_of_the_batches_and_frozen_layers_keep_theirs():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.frozen = nn.BatchNorm1d(2, momentum=0.3), nn.BatchNorm1d(2)

        def train(self, mode=True):
            super().train(mode)
            self.frozen.eval()
            return self

        def forward(self, values):
            return self.frozen(self.norm(values))

    model = Model()
    nn.init.constant_(model.norm.running_mean, 7)
    nn.init.constant_(model.frozen.running_mean, 3)
    batches = [torch.randn(16, 2) * 4 + 1, torch.randn(16, 2)]
    fit_batch_norm(model, ({"values": batch} for batch in batches))
    torch.testing.assert_close(model.norm.running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0))
    torch.testing.assert_close(model.norm.running_var, torch.stack([batch.var(0) for batch in batches]).mean(0))
    assert (model.frozen.running_mean == 3).all() and model.norm.momentum == 0.3
