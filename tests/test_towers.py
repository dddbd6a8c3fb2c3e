"""Towers of plain models of transformers: they embed as the models of this project do."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from hf_encoders.towers import make_tower
from tests.helpers.multimodal_models import tiny_tokenizer

SIZE, WIDTH = 32, 16
TRANSFORMER = {
    "hidden_size": WIDTH,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
PIXELS = {"image_size": SIZE, "patch_size": 16}
TEXTS = ["a red chair", "the lamp left of a small blue table", "a table", "green"]
PICTURES = list(np.random.default_rng(0).integers(255, size=(4, 40, 50, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def distinct(model):
    """At their initial scale, networks give nearly the same for any input."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model.eval()


def vit(**options):
    return distinct(ViTModel(ViTConfig(**TRANSFORMER, **PIXELS), **options))


def vit_processor():
    return ViTImageProcessor(size={"height": SIZE, "width": SIZE})


def bert():
    return distinct(BertModel(BertConfig(**TRANSFORMER, vocab_size=len(tiny_tokenizer()), max_position_embeddings=20)))


def clip():
    text = {**TRANSFORMER, "vocab_size": len(tiny_tokenizer()), "max_position_embeddings": 20, "eos_token_id": 3}
    model = distinct(CLIPModel(CLIPConfig(text_config=text, vision_config={**TRANSFORMER, **PIXELS}, projection_dim=6)))
    tokenizer = tiny_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]  # as CLIP's tokenizer has them
    image_processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    return model, tokenizer, image_processor


def check(tower, inputs, expected):
    """The rows, in order, whatever the batch size; and each option."""
    assert torch.pdist(expected).min() > 1e-4  # or the order would not show
    for batch_size in (1, 3, 32):
        torch.testing.assert_close(tower.encode(inputs, batch_size), expected, atol=1e-5, rtol=1e-5)
    assert tower.encode(inputs).shape == (len(inputs), tower.dimensions)
    assert tower.encode([]).shape == (0, tower.dimensions)
    short = tower.encode(inputs, normalize=True, truncate_dim=4, convert_to="numpy")
    cut = nn.functional.normalize(expected[:, :4], dim=-1)
    assert isinstance(short, np.ndarray)
    np.testing.assert_allclose(short, cut, atol=1e-5)
    rows, kept = tower.encode([*inputs, None], on_error="skip")
    assert kept.tolist() == [True] * len(inputs) + [False]
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_vit(pooling):
    model, processor = vit(), vit_processor()
    with torch.no_grad():
        outputs = model(**processor(PICTURES, return_tensors="pt"))
    hidden = outputs.last_hidden_state
    expected = {"pooler": outputs.pooler_output, "cls": hidden[:, 0], "mean": hidden.mean(1)}[pooling]
    check(make_tower(model, processor, "image", pooling=pooling), PICTURES, expected)


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_bert(pooling):
    model, tokenizer = bert(), tiny_tokenizer()
    rows = []
    for text in TEXTS:  # one by one: without padding
        with torch.no_grad():
            outputs = model(**tokenizer(text, return_tensors="pt"))
        hidden = outputs.last_hidden_state
        rows.append({"pooler": outputs.pooler_output, "cls": hidden[:, 0], "mean": hidden.mean(1)}[pooling])
    tower = make_tower(model, tokenizer, "text", pooling=pooling)
    assert tower.limit == 20
    check(tower, TEXTS, torch.cat(rows))


def test_clip():
    model, tokenizer, image_processor = clip()
    with torch.no_grad():
        pixels = image_processor(PICTURES, return_tensors="pt")
        images = model.get_image_features(**pixels).pooler_output
        tokens = [tokenizer(text, return_tensors="pt") for text in TEXTS]
        texts = torch.cat([model.get_text_features(**one).pooler_output for one in tokens])
    check(make_tower(model, image_processor, "image"), PICTURES, images)
    check(make_tower(model, tokenizer, "text"), TEXTS, texts)
    unit = make_tower(model, tokenizer, "text", normalize=True).encode(TEXTS)
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(len(TEXTS)))


def test_a_joint_processor_serves_both_modalities():
    model, tokenizer, image_processor = clip()
    joint = CLIPProcessor(image_processor, tokenizer)
    assert make_tower(model, joint, "text").processor is tokenizer
    assert make_tower(model, joint, "image").processor is image_processor


def test_a_convolutional_network_is_pooled():
    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).eval()
    processor = vit_processor()
    with torch.no_grad():
        expected = model(**processor(PICTURES, return_tensors="pt")).pooler_output.flatten(1)
    check(make_tower(model, processor, "image", pooling="pooler"), PICTURES, expected)


def without_pooler():
    return make_tower(vit(add_pooling_layer=False), vit_processor(), "image", pooling="pooler")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_tower(vit(), vit_processor(), "image"),
            "pooling is one of pooler, cls, mean, got None: .*ViTModel",
        ),
        (lambda: make_tower(bert(), tiny_tokenizer(), "text", pooling="max"), "got 'max': the one BertModel was"),
        (lambda: make_tower(clip()[0], clip()[1], "text", pooling="cls"), "CLIPModel pools its features by itself"),
        (
            lambda: make_tower(vit(), vit_processor(), "sound", pooling="cls"),
            "modality is one of text, image, depth, got",
        ),
        (
            lambda: make_tower(vit(), vit_processor(), "depth", pooling="cls"),
            "are read by a DepthImageProcessor, got a",
        ),
        (
            lambda: make_tower(vit(add_pooling_layer=False), vit_processor(), "image", pooling="pooler").encode(
                PICTURES
            ),
            "the model has no pooler",
        ),
    ],
)
def test_what_no_tower_is_made_of(make, message):
    with pytest.raises(ValueError, match=message):
        make()
