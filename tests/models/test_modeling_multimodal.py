"""The multimodal encoder: the legacy goldens, old and new names, `forward`, temperature, saving and pipelines."""

import gc

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    BertConfig,
    ViTConfig,
    pipeline,
)

from hf_encoders import MultimodalEncoderConfig, MultimodalEncoderModel
from tests.conftest import DATA
from tests.helpers.golden import golden_state_dict
from tests.helpers.multimodal_files import with_new_names
from tests.helpers.multimodal_models import SIZE, tiny_model, tiny_model_config

pytestmark = pytest.mark.numeric

SMALL = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
CONFIGS = {
    "tiny": lambda: MultimodalEncoderConfig(
        text_config=BertConfig(vocab_size=1000, max_position_embeddings=64, **SMALL),
        vision_config=ViTConfig(image_size=32, patch_size=8, **SMALL),
    ),
    "base": MultimodalEncoderConfig,  # its defaults are the legacy sizes
}


def write_repo(folder, size, rename=dict, **others):
    CONFIGS[size]().save_pretrained(folder)
    state = rename(golden_state_dict(DATA / f"multimodal_{size}_keys.tsv")) | others
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def tiny_repo(tmp_path_factory):
    return write_repo(tmp_path_factory.mktemp("golden"), "tiny")


@pytest.mark.parametrize("size", ["tiny", "base"])
@torch.no_grad()
def test_goldens(size, tmp_path):
    golden = load_file(DATA / f"multimodal_{size}_golden.safetensors")
    model, info = AutoModel.from_pretrained(write_repo(tmp_path, size), output_loading_info=True)
    assert type(model) is MultimodalEncoderModel and not any(info.values())
    inputs = {name: golden[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    outputs = model(**inputs)
    for name in ("text_embeds", "image_embeds"):
        assert (outputs[name] - golden[name]).abs().max() <= 1e-5
    assert (model.similarity(outputs.text_embeds, outputs.image_embeds) - golden["cosine"]).abs().max() <= 1e-5
    assert (outputs.logits_per_text * 0.07 - golden["cosine"]).abs().max() <= 1e-5
    assert (model.encode_text(inputs) - golden["text_embeds"]).abs().max() <= 1e-5
    assert (model.encode_image(golden["pixel_values"]) - golden["image_embeds"]).abs().max() <= 1e-5
    del model
    gc.collect()


@pytest.mark.parametrize("rename", [dict, with_new_names])
def test_old_and_new_names_load_equally_and_save_readably(rename, tiny_repo, tmp_path):
    positions = {"text_encoder.embeddings.position_ids": torch.arange(64)[None]}
    write_repo(tmp_path, "tiny", rename, **positions)
    expected = AutoModel.from_pretrained(tiny_repo).state_dict()
    legacy = golden_state_dict(DATA / "multimodal_tiny_keys.tsv")
    model, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)
    query = "attention.attention.query.weight"
    assert torch.equal(
        model.visual_encoder.layers[1].attention.q_proj.weight, legacy[f"visual_encoder.encoder.layer.1.{query}"]
    )
    for number in range(2):  # what was saved is saved again
        model.save_pretrained(tmp_path / str(number))
        model, info = AutoModel.from_pretrained(tmp_path / str(number), output_loading_info=True)
        assert not any(info.values())
        torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)


def test_missing_weights_are_reported(tiny_repo, tmp_path):
    CONFIGS["tiny"]().save_pretrained(tmp_path)
    state = load_file(tiny_repo / "model.safetensors")
    lost = ["temperature", "visual_encoder.encoder.layer.1.output.dense.bias", "text_projection.weight"]
    save_file(
        {k: v for k, v in state.items() if k not in lost}, tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    model, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == {"temperature", "visual_encoder.layers.1.mlp.fc2.bias", "text_projection.weight"}
    assert model.temperature.item() == pytest.approx(0.07) and 0.05 < model.text_projection.weight.std() < 0.15


def test_legacy_sizes_are_the_defaults():
    with torch.device("meta"):
        model = MultimodalEncoderModel(MultimodalEncoderConfig())
    assert model.text_projection.weight.shape == (256, 768)
    assert not any("pooler" in name for name in model.state_dict())
    keys = golden_state_dict(DATA / "multimodal_tiny_keys.tsv")  # of the same kinds
    assert {name.split(".")[0] for name in keys} == {name.split(".")[0] for name in model.state_dict()}


class TestForward:
    @pytest.fixture
    def inputs(self):
        return {
            "input_ids": torch.tensor([[2, 10, 12, 3], [2, 14, 3, 0], [2, 13, 3, 0]]),
            "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]]),
            "pixel_values": torch.randn(3, 3, SIZE, SIZE),
            "depth_values": torch.rand(3, 1, SIZE, SIZE) * 2 - 1,
        }

    @pytest.mark.parametrize(
        "given", ["text", "image", "depth", "text image", "text depth", "image depth", "text image depth"]
    )
    def test_any_modalities(self, given, inputs, tiny_multimodal):
        of = {"text": ["input_ids", "attention_mask"], "image": ["pixel_values"], "depth": ["depth_values"]}
        kinds = given.split()
        outputs = tiny_multimodal(**{name: inputs[name] for kind in kinds for name in of[kind]})
        whole = tiny_multimodal(**inputs)
        for kind, tower in (("text", "text"), ("image", "vision"), ("depth", "depth")):
            embeds = outputs[f"{kind}_embeds"] if kind in kinds else None
            assert (f"{kind}_embeds" in outputs) == (f"{tower}_model_output" in outputs) == (kind in kinds)
            if embeds is not None:
                torch.testing.assert_close(embeds, whole[f"{kind}_embeds"])
                torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(3))
        pairs = {
            "logits_per_image": ("image", "text"),
            "logits_per_text": ("text", "image"),
            "logits_per_depth": ("depth", "text"),
            "logits_per_text_depth": ("text", "depth"),
            "logits_per_depth_image": ("depth", "image"),
            "logits_per_image_depth": ("image", "depth"),
        }
        for name, (one, other) in pairs.items():
            assert (name in outputs) == (one in kinds and other in kinds)
            if name in outputs:
                expected = whole[f"{one}_embeds"] @ whole[f"{other}_embeds"].T / 0.07
                torch.testing.assert_close(outputs[name], expected)
        assert "loss" not in outputs

    def test_loss_is_the_mean_over_the_directions_of_the_pairs(self, inputs, tiny_multimodal):
        outputs = tiny_multimodal(**inputs, return_loss=True)
        logits = [value for name, value in outputs.items() if name.startswith("logits")]
        assert len(logits) == 6
        expected = sum(-one.log_softmax(dim=1).diagonal().mean() for one in logits) / 6
        torch.testing.assert_close(outputs.loss, expected)
        outputs.loss.backward()
        assert tiny_multimodal.temperature.grad is not None

    def test_batches_may_differ_without_a_loss(self, inputs, tiny_multimodal):
        inputs["pixel_values"] = inputs["pixel_values"][:2]
        assert tiny_multimodal(**inputs).logits_per_image.shape == (2, 3)
        with pytest.raises(ValueError, match="the loss needs a image for each text: 3 text, 2 image"):
            tiny_multimodal(**inputs, return_loss=True)

    def test_features_are_projected_and_not_normalised(self, inputs, tiny_multimodal):
        features = tiny_multimodal.get_image_features(inputs["pixel_values"])
        cls = tiny_multimodal.visual_encoder(inputs["pixel_values"]).last_hidden_state[:, 0]
        torch.testing.assert_close(features.pooler_output, tiny_multimodal.visual_projection(cls))
        assert features.last_hidden_state.shape == (3, 17, 32)
        depth = tiny_multimodal.get_depth_features(inputs["depth_values"])
        alone = tiny_multimodal.depth_encoder(inputs["depth_values"]).pooler_output
        torch.testing.assert_close(depth.pooler_output, tiny_multimodal.depth_projection(alone))
        plain = tiny_multimodal.get_image_features(inputs["pixel_values"], return_dict=False)
        assert isinstance(plain, tuple) and torch.equal(plain[1], features.pooler_output)

    def test_hidden_states_and_attentions_come_from_the_towers(self, inputs, tiny_multimodal):
        tiny_multimodal.set_attn_implementation("eager")
        outputs = tiny_multimodal(**inputs, output_hidden_states=True, output_attentions=True)
        for tower in ("text", "vision"):
            output = outputs[f"{tower}_model_output"]
            assert len(output.hidden_states) == 3 and len(output.attentions) == 2
        assert len(outputs.depth_model_output.hidden_states) == 5
        tiny_multimodal.config.output_hidden_states = True
        assert tiny_multimodal(**inputs).text_model_output.hidden_states is not None
        assert tiny_multimodal(**inputs, output_hidden_states=False).text_model_output.hidden_states is None

    def test_outputs_as_tuples(self, inputs, tiny_multimodal):
        outputs = tiny_multimodal(**inputs, return_loss=True)
        plain = tiny_multimodal(**inputs, return_loss=True, return_dict=False)
        assert isinstance(plain, tuple) and torch.equal(plain[0], outputs.loss) and len(plain) == len(outputs)
        assert isinstance(plain[-1], tuple)

    def test_images_of_another_size(self, inputs, tiny_multimodal):
        larger = torch.randn(1, 3, 2 * SIZE, SIZE)
        assert tiny_multimodal(pixel_values=larger, interpolate_pos_encoding=True).image_embeds.shape == (1, 8)

    def test_what_cannot_be_computed(self, inputs, tiny_multimodal):
        with pytest.raises(ValueError, match="give input_ids, pixel_values or depth_values"):
            tiny_multimodal()
        with pytest.raises(ValueError, match="compares two modalities, and one was given"):
            tiny_multimodal(pixel_values=inputs["pixel_values"], return_loss=True)
        with pytest.raises(ValueError, match="this model has no depth tower; build one with from_towers"):
            tiny_model(depth=False)(depth_values=inputs["depth_values"])


@pytest.mark.parametrize(("stored", "used"), [(0.05, 0.05), (0.001, 0.01), (-1.0, 0.01)])
def test_temperature_stays_above_its_least(stored, used, tiny_multimodal):
    with torch.no_grad():
        tiny_multimodal.temperature.fill_(stored)
    outputs = tiny_multimodal(input_ids=torch.tensor([[2, 10, 3]]), pixel_values=torch.zeros(1, 3, SIZE, SIZE))
    cosine = tiny_multimodal.similarity(outputs.text_embeds, outputs.image_embeds)
    # Compared before the division, which enlarges rounding as well.
    torch.testing.assert_close(outputs.logits_per_text * used, cosine, rtol=0, atol=1e-6)
    tiny_multimodal.clamp_temperature()
    assert tiny_multimodal.temperature.item() == pytest.approx(used)


def test_constant_temperature(tmp_path):
    model = tiny_model(learn_temperature=False, temperature_init_value=0.05)
    inputs = {"input_ids": torch.tensor([[2, 10, 3], [2, 11, 3]]), "pixel_values": torch.randn(2, 3, SIZE, SIZE)}
    assert "temperature" in model.state_dict() and "temperature" not in dict(model.named_parameters())
    model(**inputs, return_loss=True).loss.backward()
    model.save_pretrained(tmp_path)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()) and loaded.temperature.item() == pytest.approx(0.05)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(loaded(**inputs).image_embeds, model(**inputs).image_embeds, rtol=0, atol=1e-6)
    learned, info = AutoModel.from_pretrained(tmp_path, learn_temperature=True, output_loading_info=True)
    assert not any(info.values()) and learned.temperature.requires_grad and learned.temperature == loaded.temperature


def test_similarity_of_arrays_and_tensors(tiny_multimodal):
    a, b = torch.randn(3, 8), torch.randn(2, 8)
    expected = nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)
    torch.testing.assert_close(tiny_multimodal.similarity(a, b), expected)
    torch.testing.assert_close(tiny_multimodal.similarity(a.numpy(), 5 * b), expected)


def test_configuration_round_trip(tmp_path):
    config = tiny_model_config(text_pooling="mean", temperature_init_value=0.1)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is MultimodalEncoderConfig and loaded.to_diff_dict() == config.to_diff_dict()
    assert type(loaded.text_config) is BertConfig and loaded.depth_config.hidden_size == 12
    assert AutoConfig.from_pretrained(tmp_path, depth_config=None).depth_config is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_pooling": "max"}, "text_pooling is 'cls' or 'mean', got 'max'"),
        ({"vision_pooling": ""}, "vision_pooling is"),
        ({"projection_dim": 0}, "projection_dim must be at least 1, got 0"),
        ({"temperature_init_value": 0.0}, "temperature_init_value must be positive"),
    ],
)
def test_configurations_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        MultimodalEncoderConfig(**options)


def test_freezing_a_tower(tiny_multimodal):
    tiny_multimodal.freeze(["visual_encoder", "depth_encoder"])
    frozen = {name.split(".")[0] for name, p in tiny_multimodal.named_parameters() if not p.requires_grad}
    assert frozen == {"visual_encoder", "depth_encoder"}
    tiny_multimodal.train()
    assert not tiny_multimodal.depth_encoder.stem[1].training and tiny_multimodal.text_encoder.training


def test_zero_shot_pipeline(tiny_multimodal, tmp_path):
    tiny_multimodal.save_pretrained(tmp_path)
    assert type(AutoModelForZeroShotImageClassification.from_pretrained(tmp_path)) is MultimodalEncoderModel
    labels = ["chair", "table", "lamp"]
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (50, 60, 3), dtype=np.uint8))
    results = pipeline("zero-shot-image-classification", model=str(tmp_path))(image, candidate_labels=labels)
    texts = tiny_multimodal.encode_text([f"This is a photo of {label}." for label in labels])
    logits = tiny_multimodal.similarity(tiny_multimodal.encode_image(image), texts)[0] / 0.07
    expected = dict(zip(labels, logits.softmax(0).tolist(), strict=True))
    assert {one["label"]: pytest.approx(one["score"], abs=1e-5) for one in results} == expected


def test_new_tokens_get_rows_of_the_text_towers_embeddings(tiny_multimodal, tmp_path):
    known = tiny_multimodal.encode_text(["a red chair"])
    tokenizer = tiny_multimodal.processor.tokenizer
    tokenizer.add_tokens(["purple"])
    tiny_multimodal.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    assert tiny_multimodal.get_input_embeddings().num_embeddings == len(tokenizer)
    assert tiny_multimodal.config.text_config.vocab_size == len(tokenizer)
    tiny_multimodal.save_pretrained(tmp_path)
    for model in (tiny_multimodal, MultimodalEncoderModel.from_pretrained(tmp_path)):
        torch.testing.assert_close(model.encode_text(["a red chair"]), known)
        assert not torch.equal(model.encode_text(["purple"]), model.encode_text(["[UNK]"]))
