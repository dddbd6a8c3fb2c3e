"""Any text and vision backbone as a tower: features, loading, attention, gradient checkpointing."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    ConvNextConfig,
    Dinov2Config,
    DistilBertConfig,
    ModernBertConfig,
    ResNetConfig,
    RobertaConfig,
    SiglipVisionConfig,
    SwinConfig,
    T5Config,
    T5EncoderModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

from hf_encoders import DepthSemanticEncoderModel, MultimodalEncoderConfig, MultimodalEncoderModel
from tests.helpers.multimodal_models import LENGTH, SIZE, TEXT, TRANSFORMER, tiny_model, tiny_processor, tiny_tokenizer

pytestmark = pytest.mark.numeric

MODERN = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
TEXTS = {
    "bert": lambda: BertConfig(**TRANSFORMER, **TEXT),
    "roberta": lambda: RobertaConfig(**TRANSFORMER, **TEXT | {"max_position_embeddings": LENGTH + 1}, pad_token_id=0),
    "distilbert": lambda: DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **TEXT),
    "modernbert": lambda: ModernBertConfig(**TRANSFORMER, **TEXT, **MODERN),
}
IMAGE = {"image_size": SIZE, "patch_size": 8}
VISIONS = {
    "vit": lambda: ViTConfig(**TRANSFORMER, **IMAGE),
    "dinov2": lambda: Dinov2Config(**TRANSFORMER, **IMAGE),
    "clip": lambda: CLIPVisionConfig(**TRANSFORMER, **IMAGE),
    "siglip": lambda: SiglipVisionConfig(**TRANSFORMER, **IMAGE),
    "swin": lambda: SwinConfig(
        image_size=SIZE, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
    ),
    "resnet": lambda: ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    "convnext": lambda: ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
}
PIXELS = torch.linspace(-1, 1, 2 * 3 * SIZE * SIZE).reshape(2, 3, SIZE, SIZE).sin()


def build(text="bert", vision="vit", **options):
    config = MultimodalEncoderConfig(text_config=TEXTS[text](), vision_config=VISIONS[vision](), **options)
    return MultimodalEncoderModel(config).eval()


def tokens(*texts):
    return tiny_tokenizer()(list(texts), return_tensors="pt", padding=True, return_token_type_ids=False)


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    return model


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_text_feature(text, pooling):
    model = build(text, text_pooling=pooling)
    inputs = tokens("a red chair", "the lamp left of a small blue table")
    hidden = model.text_encoder(**inputs).last_hidden_state
    feature = hidden[:, 0]
    if pooling == "mean":
        feature = torch.stack(
            [row[mask.bool()].mean(0) for row, mask in zip(hidden, inputs["attention_mask"], strict=True)]
        )
    expected = model.text_projection(feature)
    torch.testing.assert_close(model.get_text_features(**inputs).pooler_output, expected)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_image_feature(vision, pooling):
    model = build(vision=vision, vision_pooling=pooling)
    outputs = model.visual_encoder(PIXELS)
    hidden = outputs.last_hidden_state
    if pooling == "mean" and hidden.ndim == 3:
        feature = hidden.mean(1)
    else:
        feature = hidden[:, 0] if vision in ("vit", "dinov2") else outputs.pooler_output.flatten(1)
    torch.testing.assert_close(model.get_image_features(PIXELS).pooler_output, model.visual_projection(feature))


@pytest.mark.parametrize(
    ("text", "vision"), [*((text, "vit") for text in TEXTS), *(("bert", name) for name in VISIONS)]
)
def test_every_backbone_trains_saves_and_loads(text, vision, tmp_path):
    model = build(text, vision)
    inputs = tokens("a red chair", "the lamp") | {"pixel_values": PIXELS}
    model(**inputs, return_loss=True).loss.backward()
    # The unused poolers are not built: they would get no gradient, and disturb training on several processes.
    without = {name for name, p in model.named_parameters() if p.grad is None} - {
        "visual_encoder.embeddings.mask_token"
    }
    assert not without
    model.processor = tiny_processor(depth=False)
    model.save_pretrained(tmp_path)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(loaded(**inputs).image_embeds, model(**inputs).image_embeds, rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_attention_implementation_reaches_the_towers(attention, vision, tmp_path):
    build(vision=vision).save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, attn_implementation=attention)
    assert model.text_encoder.config._attn_implementation == attention
    if vision == "vit":
        assert model.visual_encoder.config._attn_implementation == attention
    model.set_attn_implementation("eager")
    assert model.text_encoder.config._attn_implementation == "eager"
    outputs = model(**tokens("a red chair"), output_attentions=True)
    assert len(outputs.text_model_output.attentions) == 2


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(checkpointing):
    inputs = tokens("a red chair", "the lamp") | {"pixel_values": PIXELS}
    model = without_dropout(tiny_model(depth=False)).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    calls = []
    for linear in (model.text_encoder.encoder.layer[1].output.dense, model.visual_encoder.layers[1].mlp.fc1):
        linear.register_forward_hook(lambda *_: calls.append(1))
    model(**inputs, return_loss=True).loss.backward()
    assert len(calls) == (4 if checkpointing else 2)  # once more, to compute the activations again
    plain = without_dropout(tiny_model(depth=False)).train()
    plain(**inputs, return_loss=True).loss.backward()
    for (name, parameter), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=dtype)
    inputs = tokens("a red chair", "the lamp") | {"pixel_values": PIXELS, "depth_values": PIXELS[:, :1]}
    outputs = half(**inputs, return_loss=True)
    assert outputs.image_embeds.dtype == dtype and outputs.loss.isfinite()
    for name in ("text_embeds", "image_embeds", "depth_embeds"):
        assert torch.cosine_similarity(outputs[name].float(), model(**inputs)[name]).min() > 0.99
    assert half.encode_text("a red chair").dtype == torch.float32
    half.save_pretrained(tmp_path / "half")
    assert AutoModel.from_pretrained(tmp_path / "half").dtype == dtype


class TestFromTowers:
    @pytest.fixture
    def folders(self, tmp_path, tiny_encoder):
        """Towers as people have them: with poolers, a tokenizer and processors beside them."""
        BertModel(TEXTS["bert"]()).save_pretrained(tmp_path / "text")
        ViTModel(VISIONS["vit"]()).save_pretrained(tmp_path / "vision")
        processor = tiny_processor()
        processor.tokenizer.save_pretrained(tmp_path / "text")
        processor.image_processor.save_pretrained(tmp_path / "vision")
        tiny_encoder.processor = processor.depth_image_processor
        tiny_encoder.save_pretrained(tmp_path / "depth")
        return {name: tmp_path / name for name in ("text", "vision", "depth")}

    def test_folders(self, folders, tmp_path):
        model = MultimodalEncoderModel.from_towers(**folders, projection_dim=8)
        bert, vit = BertModel.from_pretrained(folders["text"]), ViTModel.from_pretrained(folders["vision"])
        depth = DepthSemanticEncoderModel.from_pretrained(folders["depth"])
        for tower, original in ((model.text_encoder, bert), (model.visual_encoder, vit), (model.depth_encoder, depth)):
            expected = original.state_dict()
            assert all(torch.equal(tensor, expected[name]) for name, tensor in tower.state_dict().items())
            assert not any("pooler" in name for name, _ in tower.named_parameters())
        assert not model.training and model.encode_text(["a red chair"]).shape == (1, 8)
        assert model.encode_depth([PIXELS[0, 0]]).shape == (1, 8)
        model.save_pretrained(tmp_path / "joined")
        loaded, info = AutoModel.from_pretrained(tmp_path / "joined", output_loading_info=True)
        assert not any(info.values())
        torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
        assert loaded.depth_processor.to_dict() == tiny_processor().depth_image_processor.to_dict()

    def test_models_are_copied(self):
        bert, vit = BertModel(TEXTS["bert"]()), AutoModel.from_config(VISIONS["resnet"]())
        model = MultimodalEncoderModel.from_towers(bert, vit, tokenizer=tiny_tokenizer())
        assert bert.pooler is not None and model.text_encoder.pooler is None
        with torch.no_grad():
            model.text_encoder.embeddings.word_embeddings.weight.zero_()
        assert bert.embeddings.word_embeddings.weight.any()
        assert model.encode_text(["a red chair"]).shape == (1, 256)
        with pytest.raises(ValueError, match="there is no image_processor beside the weights: set model.processor"):
            model.encode_image([torch.zeros(9, 9, dtype=torch.uint8)])
        model.set_attn_implementation("eager")
        assert model.text_encoder.config is model.config.text_config

    def test_configuration_fields_pass_through(self, folders):
        model = MultimodalEncoderModel.from_towers(
            folders["text"], folders["vision"], projection_dim=4, learn_temperature=False, text_pooling="mean"
        )
        assert model.config.depth_config is None and model.config.text_pooling == "mean"
        assert model.text_projection.out_features == 4 and not model.temperature.requires_grad

    def test_a_tower_that_is_not_whole_is_refused(self, folders):
        from safetensors.torch import load_file, save_file

        file = folders["text"] / "model.safetensors"
        tensors = load_file(file)
        del tensors["encoder.layer.1.output.dense.bias"]
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"text: its weights lack 'encoder.layer.1.output.dense.bias' \(1 tensors"):
            MultimodalEncoderModel.from_towers(folders["text"], folders["vision"])

    def test_another_model_is_no_depth_tower(self, folders):
        with pytest.raises(ValueError, match="not a depth semantic encoder"):
            MultimodalEncoderModel.from_towers(folders["text"], folders["vision"], folders["vision"])

    def test_a_missing_tower_is_an_error(self, folders):
        with pytest.raises(OSError, match="/no/model: cannot be loaded"):
            MultimodalEncoderModel.from_towers("/no/model", folders["vision"])


def test_a_tower_without_a_size_is_refused():
    with pytest.raises(ValueError, match="hidden_size"):
        MultimodalEncoderModel(MultimodalEncoderConfig(vision_config=AutoConfig.for_model("clip")))


SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(
    ("tower", "reason"),
    [
        (lambda: ViTMAEModel(ViTMAEConfig(image_size=32, **SMALL)), "ViTMAEModel hides most of an image"),
        (
            lambda: T5EncoderModel(T5Config(d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2, vocab_size=9)),
            "AutoModel loads it as a T5Model, with random parts",
        ),
    ],
)
@pytest.mark.parametrize("is_saved", [False, True])
def test_towers_that_are_random_or_not_rebuilt_are_refused(tower, reason, is_saved, tmp_path):
    model = tower()
    if is_saved:
        model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=reason if not is_saved or "MAE" in reason else "its weights lack 'decoder"):
        MultimodalEncoderModel.from_towers(BertModel(BertConfig(**SMALL)), tmp_path if is_saved else model)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_towers_of_files_in_half_precision_are_in_the_precision_of_the_projections(dtype, tmp_path):
    half = getattr(torch, dtype)
    BertModel(BertConfig(vocab_size=9, **SMALL)).to(half).save_pretrained(tmp_path / "text")
    ViTModel(ViTConfig(image_size=32, **SMALL)).to(half).save_pretrained(tmp_path / "image")
    model = MultimodalEncoderModel.from_towers(tmp_path / "text", tmp_path / "image", projection_dim=4)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    with torch.inference_mode():
        model(input_ids=torch.ones(1, 3, dtype=torch.long), pixel_values=torch.zeros(1, 3, 32, 32))
