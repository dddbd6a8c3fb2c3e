"""torch.export: one program for any batch, and for any length of texts, that .pt2 files keep."""

import pytest
import torch
from torch.export import Dim

from tests.helpers.multimodal_models import LENGTH, SIZE, TEXT, tiny_model

BATCHES = (1, 5)


def saved_and_loaded(program, path):
    torch.export.save(program, path)
    return torch.export.load(path).module()


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.numeric
def test_depth_encoder(tiny_encoder, tmp_path):
    shapes = {"pixel_values": {0: Dim.DYNAMIC}}
    program = torch.export.export(tiny_encoder, (torch.rand(2, 1, 64, 64),), dynamic_shapes=shapes)
    module = saved_and_loaded(program, tmp_path / "depth.pt2")
    for batch in BATCHES:
        pixel_values = torch.rand(batch, 1, 64, 64)
        assert_equal(module(pixel_values).pooler_output, tiny_encoder(pixel_values).pooler_output)


def tokens(batch, length):
    input_ids = torch.randint(5, TEXT["vocab_size"], (batch, length))
    mask = torch.ones_like(input_ids)
    mask[-1, length // 2 :] = 0
    return {"input_ids": input_ids, "attention_mask": mask}


class Features(torch.nn.Module):
    """What people export of a dual encoder: one modality's embedding."""

    def __init__(self, model, modality):
        super().__init__()
        self.model, self.modality = model, modality

    def forward(self, inputs):
        return getattr(self.model, f"get_{self.modality}_features")(**inputs).pooler_output


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("length", [3, LENGTH])
def test_text_features(batch, length, text_program):
    module, features = text_program
    inputs = tokens(batch, length)
    assert_equal(module(inputs), features(inputs))


@pytest.fixture(scope="module")
def text_program(tmp_path_factory):
    features = Features(tiny_model(), "text")
    shape = {0: Dim.DYNAMIC, 1: Dim("length", min=2, max=LENGTH)}
    shapes = {"inputs": dict.fromkeys(("input_ids", "attention_mask"), shape)}
    program = torch.export.export(features, (tokens(2, 7),), dynamic_shapes=shapes)
    return saved_and_loaded(program, tmp_path_factory.mktemp("export") / "text.pt2"), features


@pytest.mark.numeric
def test_image_features(tmp_path):
    features = Features(tiny_model(), "image")
    example = {"pixel_values": torch.rand(2, 3, SIZE, SIZE)}
    program = torch.export.export(features, (example,), dynamic_shapes=({"pixel_values": {0: Dim.DYNAMIC}},))
    module = saved_and_loaded(program, tmp_path / "image.pt2")
    for batch in BATCHES:
        inputs = {"pixel_values": torch.rand(batch, 3, SIZE, SIZE)}
        assert_equal(module(inputs), features(inputs))


def test_whole_model(tmp_path):
    model = tiny_model()
    example = {**tokens(2, 7), "pixel_values": torch.rand(2, 3, SIZE, SIZE)}
    shapes = {name: {0: Dim.DYNAMIC} for name in example}
    program = torch.export.export(model, (), example, dynamic_shapes=shapes)
    inputs = {**tokens(4, 7), "pixel_values": torch.rand(4, 3, SIZE, SIZE)}
    outputs = saved_and_loaded(program, tmp_path / "model.pt2")(**inputs)
    assert_equal(outputs.image_embeds, model(**inputs).image_embeds)
    assert_equal(outputs.logits_per_text, model(**inputs).logits_per_text)
