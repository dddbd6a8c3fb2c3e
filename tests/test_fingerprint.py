"""A fingerprint tells weights apart."""

import pytest
import torch

from hf_encoders.fingerprint import fingerprint


def test_a_change_of_any_tensor_changes_it(tiny_encoder):
    before = fingerprint(tiny_encoder)
    assert len(before) == 32
    assert fingerprint(tiny_encoder) == before
    for tensor in tiny_encoder.state_dict().values():
        old = tensor.clone()
        tensor.view(-1)[-1] += 1
        assert fingerprint(tiny_encoder) != before
        tensor.copy_(old)
    assert fingerprint(tiny_encoder) == before


@pytest.mark.parametrize("place", [0, 1, 12_345, 249_999])
def test_one_value_of_many_changes_it(place):
    layer = torch.nn.Linear(500, 500)
    before = fingerprint(layer)
    with torch.no_grad():
        layer.weight.view(-1)[place] += 1e-3
    assert fingerprint(layer) != before


def test_the_type_counts_and_the_place_in_memory_does_not():
    layer = torch.nn.Linear(4, 4)
    before = fingerprint(layer)
    assert fingerprint(layer.to(torch.bfloat16)) != before
    layer = torch.nn.Linear(4, 4)
    expected = fingerprint(layer)
    layer.weight.data = layer.weight.data.t().contiguous().t()
    assert not layer.weight.is_contiguous() and fingerprint(layer) == expected


def test_weights_that_are_not_in_memory_have_none():
    with pytest.raises(ValueError, match="bias is not in memory"):
        fingerprint(torch.nn.Linear(4, 4, device="meta"))
