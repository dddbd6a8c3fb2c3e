"""`model.tower(name)`: one modality of a model, by the same words for every model."""

import numpy as np
import pytest
import torch

from hf_encoders import DepthImageProcessor
from hf_encoders.modalities import encoder, encoder_of, modalities
from hf_encoders.models.pixel_towers import DepthTower, ImageTower
from hf_encoders.models.text_tower import TextTower
from tests.helpers.multimodal_models import LENGTH, SIZE, tiny_model

INPUTS = {
    "text": ["a red chair", "a table", "the lamp"],
    "image": list(np.random.default_rng(0).integers(255, size=(3, 40, 50, 3), dtype=np.uint8)),
    "depth": list(np.random.default_rng(0).random((3, 40, 50), dtype=np.float32)),
}


@pytest.mark.parametrize(("name", "kind"), [("text", TextTower), ("image", ImageTower), ("depth", DepthTower)])
def test_a_tower_is_what_encode_uses(name, kind, tiny_multimodal):
    tower = tiny_multimodal.tower(name)
    assert type(tower) is kind and tower.name == name and tower.dimensions == 8 and tower.model is tiny_multimodal
    expected = getattr(tiny_multimodal, f"encode_{name}")(INPUTS[name])
    assert torch.equal(tower.encode(INPUTS[name]), expected)
    assert torch.equal(encoder(tiny_multimodal, name)(INPUTS[name]), expected)
    # Its parts, by hand.
    with torch.no_grad():
        rows = tower.embed(tower.prepare(INPUTS[name]))
    torch.testing.assert_close(torch.nn.functional.normalize(rows, dim=-1), expected, atol=1e-5, rtol=0)
    assert torch.equal(
        tower.encode(INPUTS[name], normalize=False), tower.encode(tower.prepare(INPUTS[name]), normalize=False)
    )


def test_the_depth_encoder_has_one_tower_and_does_not_normalise(tiny_encoder):
    tiny_encoder.processor = DepthImageProcessor(size=SIZE)
    tower = tiny_encoder.tower("depth")
    assert tiny_encoder.towers == ("depth",) and tower.dimensions == 12 and not tower.normalize
    assert torch.equal(tower.encode(INPUTS["depth"]), tiny_encoder.encode(INPUTS["depth"]))


@pytest.mark.parametrize("name", ["text", "image", "depth"])
def test_a_bad_input_is_named_by_its_index(name, tiny_multimodal):
    bad = np.full((4, 4), np.nan, np.float32)
    with pytest.raises((ValueError, TypeError), match=r"\b8\b"):
        tiny_multimodal.tower(name).prepare([*INPUTS[name], bad], first_index=5)


def test_the_processor_of_a_tower_is_the_models_own(tiny_multimodal):
    other = DepthImageProcessor(size=SIZE, invalid_fill=0.5)
    tiny_multimodal.tower("depth").processor = other
    assert tiny_multimodal.processor.depth_image_processor is other is tiny_multimodal.depth_encoder.processor
    assert tiny_multimodal.tower("text").limit == LENGTH and tiny_multimodal.tower("image").limit is None


@pytest.mark.parametrize(
    ("name", "message"),
    [("depth", "the model embeds text and image, not depth"), ("sound", "modality is one of text, image, depth, got")],
)
def test_an_absent_tower_is_refused_with_what_there_is(name, message):
    model = tiny_model(depth=False)
    assert modalities(model) == ("text", "image")
    for ask in (model.tower, lambda modality: encoder(model, modality)):
        with pytest.raises(ValueError, match=message):
            ask(name)


def test_a_model_without_towers_is_refused():
    assert modalities(torch.nn.Linear(1, 1)) == ()
    with pytest.raises(ValueError, match="a Linear, expected an encoder, such as load_encoder gives"):
        encoder_of(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_weights_that_are_no_numbers_embed_nothing(tiny_multimodal, on_error):
    tiny_multimodal.text_projection.weight.data[3, 2] = torch.nan
    with pytest.raises(ValueError, match=r"the model's weights hold NaN or infinity \(text_projection.weight\)"):
        tiny_multimodal.encode_text(["a red chair"], on_error=on_error)


def test_an_embedding_that_is_no_number_is_named_or_left_out(tiny_encoder):
    pixel_values = torch.rand(3, 1, 64, 64)
    expected = tiny_encoder.encode(pixel_values)
    pixel_values[1, 0, 5, 5] = torch.inf
    with pytest.raises(ValueError, match="item 1: its embedding holds NaN or infinity, computed in float32"):
        tiny_encoder.encode(pixel_values, batch_size=2)
    found, kept = tiny_encoder.encode(pixel_values, batch_size=2, on_error="skip")
    assert kept.tolist() == [True, False, True]
    torch.testing.assert_close(found, expected[[0, 2]])
