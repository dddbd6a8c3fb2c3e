"""ResNet, ConvNeXt, Swin, DINOv2 and DeiT of transformers, saved by other trainers: the model is its own original."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    ConvNextConfig,
    ConvNextV2Config,
    DeiTConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    RegNetConfig,
    ResNetConfig,
    RTDetrResNetConfig,
    SwinConfig,
    Swinv2Config,
)

from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.checkpoints.finding.choice import WeightsWanted
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.export import export
from hf_encoders.conversion.families.family import EncoderOptions
from hf_encoders.conversion.verify_repo import verify_repo
from tests.helpers.encoder_files import ResNet, randomised
from tests.helpers.foreign_encoders import converted, difference, loaded

RESNET = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 1], "num_labels": 3}
CONVNEXT = {"hidden_sizes": [8, 16], "num_stages": 2, "depths": [1, 2], "num_labels": 3}
SWIN = {
    "embed_dim": 8, "num_heads": [2, 4], "depths": [2, 2], "window_size": 4, "image_size": 32, "num_labels": 3,
}  # fmt: skip
VIT = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 28, "patch_size": 7}
DEIT = {**VIT, "intermediate_size": 40, "num_labels": 3}
TWO_HEADS = EncoderOptions(attention_heads=(2,))

KINDS = {
    "a basic ResNet with a classifier": ("ResNetForImageClassification", ResNetConfig(layer_type="basic", **RESNET)),
    "a ResNet of bottlenecks": ("ResNetModel", ResNetConfig(**RESNET)),
    "a ConvNeXt with a classifier": ("ConvNextForImageClassification", ConvNextConfig(**CONVNEXT)),
    "a ConvNeXt without layer scale": ("ConvNextModel", ConvNextConfig(layer_scale_init_value=0.0, **CONVNEXT)),
    "a ConvNeXt V2 with a classifier": ("ConvNextV2ForImageClassification", ConvNextV2Config(**CONVNEXT)),
    "a ConvNeXt V2": ("ConvNextV2Model", ConvNextV2Config(**CONVNEXT)),
    "a Swin with a classifier": ("SwinForImageClassification", SwinConfig(**SWIN)),
    "a Swin with positions and without biases": (
        "SwinModel", SwinConfig(use_absolute_embeddings=True, qkv_bias=False, **SWIN),
    ),
    "a DINOv2 with a classifier": ("Dinov2ForImageClassification", Dinov2Config(num_labels=3, **VIT)),
    "a gated DINOv2 without biases": ("Dinov2Model", Dinov2Config(use_swiglu_ffn=True, qkv_bias=False, **VIT)),
    "a gated DINOv2 with registers and a classifier": (
        "Dinov2WithRegistersForImageClassification",
        Dinov2WithRegistersConfig(use_swiglu_ffn=True, num_register_tokens=3, num_labels=3, **VIT),
    ),
    "a DINOv2 with registers": ("Dinov2WithRegistersModel", Dinov2WithRegistersConfig(**VIT)),
    "a DeiT with two classifiers": ("DeiTForImageClassificationWithTeacher", DeiTConfig(**DEIT)),
    "a DeiT with one": ("DeiTForImageClassification", DeiTConfig(**DEIT)),
    "a DeiT": ("DeiTModel", DeiTConfig(**DEIT)),
}  # fmt: skip
CLASSIFIERS = {
    "a basic ResNet with a classifier": ("ResNetModel", "resnet"),
    "a ConvNeXt with a classifier": ("ConvNextModel", "convnext"),
    "a ConvNeXt V2 with a classifier": ("ConvNextV2Model", "convnextv2"),
    "a Swin with a classifier": ("SwinModel", "swin"),
    "a DINOv2 with a classifier": ("Dinov2Model", "dinov2"),
    "a gated DINOv2 with registers and a classifier": ("Dinov2WithRegistersModel", "dinov2_with_registers"),
}


def network(architecture, configuration):
    return randomised(getattr(transformers, architecture)(configuration))


def options_of(configuration, **more):
    """The number of heads, where no tensor tells it; those of a Swin follow from its tables."""
    heads = (2,) if type(getattr(configuration, "num_attention_heads", None)) is int else None
    return EncoderOptions(attention_heads=heads, **more)


def in_memory(model, folder):
    return model.state_dict()


def as_saved(model, folder):
    """The names that `save_pretrained` writes, which are those of transformers 4."""
    model.save_pretrained(folder / "saved")
    return load_file(folder / "saved" / "model.safetensors")


def images_of(configuration):
    side = 64 if configuration.image_size == 224 else configuration.image_size
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def compare(repo, architecture, original, images):
    model = loaded(repo, architecture)
    with torch.no_grad():
        actual, expected = model(images), original(images)
    for name in ("logits", "last_hidden_state", "pooler_output"):
        if expected.get(name) is not None:
            assert difference(actual[name], expected[name]) < 1e-5
    return model


def image_side(configuration):
    configuration.image_size = getattr(configuration, "image_size", 224)
    return configuration


def wrapped(state_dict, wrapping):
    prefix = {"Lightning": "model.", "DDP": "module.", "backbone": "net.backbone.", "compiled": "_orig_mod."}[wrapping]
    inner = {prefix + name: tensor for name, tensor in state_dict.items()}
    return {"state_dict": inner, "epoch": 3, "hyper_parameters": {"lr": 1e-3}} if wrapping == "Lightning" else inner


def assumed(repo):
    report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
    return [each["what"] for each in report["assumed"] if each["of_network"]]


def refusal(folder, content, options=None):
    with pytest.raises(LayoutError) as caught:
        converted(folder, content, options)
    return str(caught.value)


NAMES = pytest.mark.parametrize("names", [in_memory, as_saved])


@NAMES
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_transformers_comes_back_from_lightning(tmp_path, kind, names):
    architecture, configuration = KINDS[kind]
    original = network(architecture, image_side(configuration))
    state = wrapped(names(original, tmp_path), "Lightning")
    repo = converted(tmp_path, state, options_of(configuration))
    model = compare(repo, architecture, original, images_of(configuration))
    assert model.config.architectures == [architecture]
    loaded(repo)
    assert verify_repo(str(repo), tmp_path / "checkpoint.pth")
    export(str(repo), tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth")["state_dict"]
    assert back.keys() == state["state_dict"].keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state["state_dict"].items())


@pytest.mark.parametrize("wrapping", ["DDP", "backbone", "compiled"])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_without_its_head_the_encoder_is_the_same(tmp_path, kind, wrapping):
    architecture, configuration = KINDS[kind]
    original = network(architecture, image_side(configuration))
    state = wrapped(as_saved(original, tmp_path), wrapping)
    repo = converted(tmp_path, state, options_of(configuration, without_head=True))
    name, attribute = CLASSIFIERS[kind]
    compare(repo, name, getattr(original, attribute), images_of(configuration))
    report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
    assert len(report["dropped"]) == 2 and all(".classifier." in f".{key}" for key in report["dropped"])


@pytest.mark.parametrize("kind", ["a ConvNeXt with a classifier", "a basic ResNet with a classifier"])
def test_wrappers_within_the_first_names_hide_nothing(tmp_path, kind):
    architecture, configuration = KINDS[kind]
    original = network(architecture, image_side(configuration))
    inner = {
        name.replace("patch_embeddings.", "patch_embeddings._fsdp_wrapped_module.")
        .replace("embedder.conv", "_fsdp_wrapped_module.embedder._fsdp_wrapped_module.conv"): tensor
        for name, tensor in original.state_dict().items()
    }  # fmt: skip
    repo = converted(tmp_path, inner)
    compare(repo, architecture, original, images_of(configuration))


def test_a_masked_autoencoder_is_its_encoder(tmp_path):
    original = network("SwinForMaskedImageModeling", SwinConfig(**SWIN))
    repo = converted(tmp_path, wrapped(original.state_dict(), "DDP"))
    compare(repo, "SwinModel", original.swin, images_of(original.config))


def test_the_index_of_windows_that_transformers_4_saved_is_no_weight(tmp_path):
    original = network("SwinModel", SwinConfig(**SWIN))
    state = as_saved(original, tmp_path)
    rows = torch.arange(16) // 4
    columns = torch.arange(16) % 4
    index = (rows[:, None] - rows + 3) * 7 + columns[:, None] - columns + 3
    for name in [name for name in state if name.endswith("relative_position_bias_table")]:
        state[name.replace("bias_table", "index")] = index
    repo = converted(tmp_path, state)
    compare(repo, "SwinModel", original, images_of(original.config))
    export(str(repo), tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth")
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


def test_the_last_epsilon_of_a_convnext_is_that_of_transformers(tmp_path):
    original = network("ConvNextModel", ConvNextConfig(**CONVNEXT))
    for folder, options, eps in (("a", None, 1e-12), ("b", EncoderOptions(layer_norm_eps=1e-3), 1e-3)):
        (tmp_path / folder).mkdir()
        repo = converted(tmp_path / folder, original.state_dict(), options)
        original.layernorm.eps = eps
        model = compare(repo, "ConvNextModel", original, images_of(original.config))
        assert model.config.layer_norm_eps == eps
        assert assumed(repo) == ([] if options else ["an epsilon of 1e-12 in the last LayerNorm, as in transformers,"])


@pytest.mark.parametrize("of_swin", [True, False])
def test_a_configuration_in_the_file_tells_epsilon_and_activation(tmp_path, of_swin):
    changed = {"layer_norm_eps": 1e-2, "hidden_act": "relu"}
    if of_swin:
        original = network("SwinModel", SwinConfig(**SWIN, **changed))
    else:
        original = network("ConvNextModel", ConvNextConfig(**CONVNEXT, **changed))
    repo = converted(tmp_path, {"model": original.state_dict(), "config": original.config.to_dict()})
    model = compare(repo, type(original).__name__, original, images_of(original.config))
    assert (model.config.layer_norm_eps, model.config.hidden_act) == (1e-2, "relu")
    assert assumed(repo) == []
    assert verify_repo(str(repo))


@pytest.mark.parametrize("of_swin", [True, False])
def test_one_of_two_configurations_is_assumed(tmp_path, of_swin):
    """Each may be of another network in the file."""
    changed = {"layer_norm_eps": 1e-2, "hidden_act": "relu"}
    if of_swin:
        original = network("SwinModel", SwinConfig(**SWIN, **changed))
    else:
        original = network("ConvNextModel", ConvNextConfig(**CONVNEXT, **changed))
    config = original.config.to_dict()
    content = {"model": original.state_dict(), "config": config, "args": {"config": dict(config)}}
    repo = converted(tmp_path, content)
    assert len(assumed(repo)) == 2 and all("the file's arguments" in what for what in assumed(repo))


def test_a_person_settles_epsilon_and_activation_of_a_swin(tmp_path):
    original = network("SwinModel", SwinConfig(**SWIN, layer_norm_eps=1e-2, hidden_act="relu"))
    repo = converted(tmp_path, original.state_dict(), EncoderOptions(layer_norm_eps=1e-2, hidden_act="relu"))
    compare(repo, "SwinModel", original, images_of(original.config))
    assert assumed(repo) == []


def test_the_stride_of_bottlenecks_is_stated_or_said(tmp_path):
    original = network("ResNetModel", image_side(ResNetConfig(downsample_in_bottleneck=True, **RESNET)))
    state = {"model": original.state_dict()}
    stated = {**state, "config": {"downsample_in_bottleneck": True}}
    pickled = {**state, "config": original.config}
    said = EncoderOptions(stride_in="1x1")
    for folder, content, options in (("a", stated, None), ("b", pickled, None), ("c", state, said)):
        (tmp_path / folder).mkdir()
        repo = converted(tmp_path / folder, content, options)
        compare(repo, "ResNetModel", original, images_of(original.config))
        assert verify_repo(str(repo))
        assert len(assumed(repo)) == (options is None)
        report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
        assert report["options"]["stride_in"] == "1x1"  # it is planned again without the file
    assert "v1.5" in assumed(converted(tmp_path, state))[0]


def test_the_gate_of_a_dinov2_is_no_assumed_activation(tmp_path):
    original = network("Dinov2Model", Dinov2Config(use_swiglu_ffn=True, **VIT))
    content = {"model": original.state_dict(), "config": {"hidden_act": "gelu"}}
    repo = converted(tmp_path, content, EncoderOptions(attention_heads=(2,), layer_norm_eps=1e-6))
    compare(repo, "Dinov2Model", original, images_of(original.config))
    assert assumed(repo) == []


def state_of(architecture, configuration):
    return getattr(transformers, architecture)(configuration).state_dict()


def changed(kind, less=(), more=None):
    """The tensors of a kind without those whose names hold some text, and with others."""
    state = state_of(*KINDS[kind])
    return {name: value for name, value in state.items() if not any(text in name for text in less)} | (more or {})


SMALL = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
REFUSED = {
    "a RegNet": (lambda: state_of("RegNetModel", RegNetConfig(groups_width=8, **SMALL)), "a RegNet"),
    "RT-DETR's ResNet": (lambda: state_of("RTDetrResNetBackbone", RTDetrResNetConfig(**SMALL)), "a ResNet-D"),
    "a first stage that halves": (
        lambda: state_of("ResNetModel", ResNetConfig(layer_type="basic", downsample_in_first_stage=True, **SMALL)),
        "whose first stage halves the image",
    ),
    "a stated first stage": (
        lambda: {"model": state_of(*KINDS["a ResNet of bottlenecks"]), "config": {"downsample_in_first_stage": True}},
        "whose first stage halves the image",
    ),
    "a ResNet with another activation": (
        lambda: {"model": state_of(*KINDS["a ResNet of bottlenecks"]), "config": {"hidden_act": "gelu"}},
        "state the activation gelu",
    ),
    "a ConvNeXt for detectors": (
        lambda: state_of("ConvNextBackbone", ConvNextConfig(out_features=["stage1"], **CONVNEXT)),
        "--ignore '*hidden_states_norms.*' converts the rest",
    ),
    "a Swin for detectors": (
        lambda: state_of("SwinBackbone", SwinConfig(out_features=["stage1"], **SWIN)),
        "--ignore '*hidden_states_norms.*' converts the rest",
    ),
    "a Swin V2": (lambda: state_of("Swinv2Model", Swinv2Config(**SWIN)), "a Swin Transformer V2"),
    "a classifier of the class token": (
        lambda: changed(
            "a DINOv2 with registers", more={"classifier.weight": torch.ones(3, 32), "classifier.bias": torch.ones(3)}
        ),
        "its classifier reads 32 channels",
    ),
    "an activation that is not known": (
        lambda: {"model": state_of(*KINDS["a ConvNeXt V2"]), "config": {"hidden_act": "mish"}},
        "no activation is called 'mish'",
    ),
    "a missing block of a ResNet": (
        lambda: changed("a ResNet of bottlenecks", ["stages.0.layers.0."]), "lacks the blocks of a ResNet",
    ),
    "a missing layer of a ConvNeXt": (
        lambda: changed("a ConvNeXt V2", ["stages.1.layers.0.dwconv"]), "lacks 'stages.1.0.dwconv.weight'",
    ),
    "a missing block of a Swin": (
        lambda: changed("a Swin with a classifier", ["layers.1.blocks.0.mlp.fc2"]),
        "missing 'layers.1.blocks.0.mlp.fc2.weight'",
    ),
    "a missing layer of a DINOv2": (
        lambda: changed("a DINOv2 with registers", ["layer.0.attention.k_proj"]), "missing 'blocks.0.attn.key.weight'",
    ),
    "an unknown tensor": (
        lambda: changed("a Swin with a classifier", more={"swin.adapter.weight": torch.ones(2)}),
        "unexpected 'swin.adapter.weight'",
    ),
    "a tensor that begins as a classifier": (
        lambda: changed("a Swin with positions and without biases", more={"classifier_b.weight": torch.ones(2)}),
        "unexpected 'classifier_b.weight'",
    ),
    "a width that nothing explains": (
        lambda: changed("a ConvNeXt V2", more={"encoder.stages.1.layers.1.pwconv1.weight": torch.ones(60, 16)}),
        "has shape [60, 16]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_whole_model_is_refused_by_its_name(tmp_path, case):
    content, words = REFUSED[case]
    options = TWO_HEADS if "DINO" in case or "class token" in case else None
    found = refusal(tmp_path, content(), options)
    assert words in found and "\n" not in found


def test_the_rest_of_a_detectors_backbone_is_converted(tmp_path):
    original = network("SwinBackbone", SwinConfig(out_features=["stage2"], **SWIN))
    torch.save(original.state_dict(), tmp_path / "checkpoint.pth")
    ignored = WeightsWanted(ignore=("*hidden_states_norms.*",))
    repo = convert(tmp_path / "checkpoint.pth", tmp_path / "repo", weights=ignored)
    compare(repo, "SwinModel", original.swin, images_of(original.config))


def test_a_classifier_beside_torchvisions_names_is_not_taken_for_transformers(tmp_path):
    state = randomised(ResNet()).state_dict() | {"classifier.1.weight": torch.ones(3, 64)}
    assert "unexpected 'classifier.1.weight'" in refusal(tmp_path, state)
