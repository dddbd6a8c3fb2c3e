"""Feature maps of every stage, for detectors and segmentation heads: `output_hidden_states=True`."""

import pytest
import torch

from hf_encoders import DepthSemanticEncoderForImageClassification, DepthSemanticEncoderModel
from tests.conftest import TINY
from tests.helpers.multimodal_models import LENGTH, SIZE, TRANSFORMER, tiny_model

STRIDES = (4, 4, 8, 16, 32)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (160, 96)])
@pytest.mark.parametrize("model_class", [DepthSemanticEncoderModel, DepthSemanticEncoderForImageClassification])
def test_depth_encoder(model_class, height, width, tiny_config):
    model = model_class(tiny_config).eval()
    pixel_values = torch.rand(2, 1, height, width)
    maps = model(pixel_values, output_hidden_states=True).hidden_states
    channels = [tiny_config.stem_sizes[-1], *tiny_config.hidden_sizes]
    assert [tuple(one.shape) for one in maps] == [
        (2, size, height // stride, width // stride) for size, stride in zip(channels, STRIDES, strict=True)
    ]
    # Each is what the next stage reads: the gates are in.
    encoder = model.base_model
    for layer, gate, before, after in zip(
        (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4),
        (encoder.attention1, encoder.attention2, encoder.attention3, encoder.se_block),
        maps[:-1],
        maps[1:],
        strict=True,
    ):
        assert torch.equal(gate(layer(before)), after)


def test_they_carry_gradients_to_the_stages_before(tiny_encoder):
    maps = tiny_encoder(torch.rand(1, 1, 64, 64), output_hidden_states=True).hidden_states
    maps[2].sum().backward()
    assert tiny_encoder.stem[0].weight.grad is not None and tiny_encoder.layer3[0].conv1.weight.grad is None


def test_towers_of_the_multimodal_encoder():
    model = tiny_model()
    outputs = {
        "text": model.get_text_features(torch.ones(2, LENGTH, dtype=torch.long), output_hidden_states=True),
        "image": model.get_image_features(torch.rand(2, 3, SIZE, SIZE), output_hidden_states=True),
        "depth": model.get_depth_features(torch.rand(2, 1, 64, 96), output_hidden_states=True),
    }
    layers, width = TRANSFORMER["num_hidden_layers"], TRANSFORMER["hidden_size"]
    shapes = {name: [tuple(one.shape) for one in output.hidden_states] for name, output in outputs.items()}
    assert shapes["text"] == [(2, LENGTH, width)] * (layers + 1)
    assert shapes["image"] == [(2, 1 + (SIZE // 8) ** 2, width)] * (layers + 1)
    channels = [TINY["stem_sizes"][-1], *TINY["hidden_sizes"]]
    assert shapes["depth"] == [
        (2, size, 64 // stride, 96 // stride) for size, stride in zip(channels, STRIDES, strict=True)
    ]
    for output in outputs.values():
        assert output.pooler_output.shape == (2, 8)
    assert model.get_image_features(torch.rand(2, 3, SIZE, SIZE)).hidden_states is None
