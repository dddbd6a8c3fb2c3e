"""A fingerprint tells weights apart."""

import torch

from hf_encoders.fingerprint import fingerprint


def test_a_change_of_any_tensor_changes_it(tiny_encoder):
    before = fingerprint(tiny_encoder)
    assert len(before) == 32
    assert fingerprint(tiny_encoder) == before
    for tensor in tiny_encoder.state_dict().values():
        old = tensor.clone()
        tensor += 1
        assert fingerprint(tiny_encoder) != before
        tensor.copy_(old)
    assert fingerprint(tiny_encoder) == before


def test_training_a_large_tensor_changes_it():
    layer = torch.nn.Linear(500, 500)
    before = fingerprint(layer)
    layer(torch.randn(4, 500)).square().sum().backward()
    torch.optim.AdamW(layer.parameters(), lr=1e-5).step()
    assert fingerprint(layer) != before
