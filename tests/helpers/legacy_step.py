"""What a step of the legacy training may differ by from the same step in double precision."""

import torch

# Of the loss: cosines in single precision, divided by the temperature of 0.07.
LEGACY_ROUNDING = 1e-5
KEYS_BIASES = ("key.bias", "k_proj.bias")


def assert_legacy_update(parameters, after):
    """Parameters that made a step in double precision, with their gradients, are those of the legacy run.

    Whatever is added to all keys leaves a softmax as it is. So the biases of the keys have no gradient: the legacy run
    had rounding in its place, of which AdamW makes steps as large as any other.
    """
    biases = {name for name in parameters if name.endswith(KEYS_BIASES)}
    assert len(biases) == 2  # of a layer of text and one of images
    largest = max(parameter.grad.abs().max() for parameter in parameters.values())
    for name, parameter in parameters.items():
        if name in biases:
            assert parameter.grad.abs().max() <= 1e-12 * largest, name
        else:  # a step is 1e-4; the weights are of the order of 1
            torch.testing.assert_close(parameter.detach(), after[name].double(), rtol=0, atol=1e-6, msg=name)
