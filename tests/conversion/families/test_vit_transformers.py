"""ViT and DeiT under transformers' names, as other trainers save them."""

import json
import re

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageClassification

from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.checkpoints.files import open_checkpoint
from hf_encoders.checkpoints.finding.choice import choose
from hf_encoders.conversion.encoders.source import recognise_encoder
from hf_encoders.conversion.families.encoders import ENCODERS
from hf_encoders.conversion.families.family import EncoderOptions
from hf_encoders.conversion.families.moves import apply, undo
from hf_encoders.conversion.families.names import FAMILIES
from tests.helpers.multimodal_files import multimodal_state
from tests.helpers.vit_networks import (
    CLASSES,
    WIDTH,
    close,
    converted,
    gives_the_same,
    images_of,
    load,
    prefixed,
    vit,
)

TOLD = EncoderOptions(attention_heads=(3,), layer_norm_eps=1e-6)
NO_HEAD = EncoderOptions(attention_heads=(3,), layer_norm_eps=1e-6, without_head=True)
# timm's names → transformers' old ones.
OLD = (
    (r"cls_token", "embeddings.cls_token"),
    (r"dist_token", "embeddings.distillation_token"),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"patch_embed\.proj", "embeddings.patch_embeddings.projection"),
    (r"norm\.(?=weight|bias)", "layernorm."),
    (r"head\.", "classifier."),
    (r"blocks\.(\d+)\.norm1", r"encoder.layer.\1.layernorm_before"),
    (r"blocks\.(\d+)\.norm2", r"encoder.layer.\1.layernorm_after"),
    (r"blocks\.(\d+)\.attn\.proj", r"encoder.layer.\1.attention.output.dense"),
    (r"blocks\.(\d+)\.mlp\.fc1", r"encoder.layer.\1.intermediate.dense"),
    (r"blocks\.(\d+)\.mlp\.fc2", r"encoder.layer.\1.output.dense"),
)
NEW = (
    (r"encoder\.layer\.", "layers."),
    (r"attention\.attention\.query", "attention.q_proj"),
    (r"attention\.attention\.key", "attention.k_proj"),
    (r"attention\.attention\.value", "attention.v_proj"),
    (r"attention\.output\.dense", "attention.o_proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"(?<!attention\.)output\.dense", "mlp.fc2"),
)


def old_names(network):
    """The tensors of a network under the names of transformers 4."""
    state = {}
    for name, tensor in network.state_dict().items():
        if match := re.match(r"blocks\.(\d+)\.attn\.qkv\.(\w+)", name):
            for part, value in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                state[f"encoder.layer.{match[1]}.attention.attention.{part}.{match[2]}"] = value.clone()
            continue
        for pattern, new in OLD:
            if re.match(pattern, name):
                name = re.sub(f"^{pattern}", new, name)
                break
        state[name] = tensor
    return state


def new_names(network):
    """The tensors of a network under the names that transformers 5 has in memory."""
    state = {}
    for name, tensor in old_names(network).items():
        for pattern, new in NEW:
            name = re.sub(pattern, new, name)
        state[name] = tensor
    return state


def refusal(folder, content, options=TOLD):
    with pytest.raises(LayoutError) as caught:
        converted(folder, content, options)
    return str(caught.value)


NAMES = pytest.mark.parametrize("names", [old_names, new_names])


@NAMES
@pytest.mark.parametrize("prefix", ["", "vit.", "model.vit."])
def test_tokens_are_the_same(tmp_path, names, prefix):
    network = vit()
    repo = converted(tmp_path, {"state_dict": prefixed(prefix, names(network))}, TOLD)
    assert gives_the_same(repo, network).config.architectures == ["ViTModel"]


@NAMES
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_classifier_gives_its_logits(tmp_path, names, prefix):
    network = vit(classes=CLASSES, qkv_bias=False)
    state = names(network)
    head = {name: state.pop(name) for name in ("classifier.weight", "classifier.bias")}
    content = {"state_dict": prefixed(prefix, prefixed("vit.", state) | head)}
    repo, images = converted(tmp_path, content, TOLD), images_of(network.kind)
    assert gives_the_same(repo, network).config.architectures == ["ViTForImageClassification"]
    with torch.no_grad():
        close(load(repo, AutoModelForImageClassification)(images).logits, network.logits(images))


def test_a_trained_pooler_stays(tmp_path):
    network, pooler = vit(), nn.Linear(WIDTH, WIDTH)
    state = old_names(network) | prefixed("pooler.dense.", pooler.state_dict())
    repo, images = converted(tmp_path, state, TOLD), images_of(network.kind)
    with torch.no_grad():
        tokens, outputs = network.tokens(images), load(repo)(images)
        close(outputs.last_hidden_state, tokens)
        close(outputs.pooler_output, torch.tanh(pooler(tokens[:, 0])))


def test_a_deit_has_two_heads_or_one(tmp_path):
    network = vit(classes=CLASSES, distilled=True)
    state, images = old_names(network), images_of(network.kind)
    heads = {name: state.pop(name) for name in list(state) if name.startswith(("classifier", "head_dist"))}
    one = {f"classifier.{kind}": heads[f"classifier.{kind}"] for kind in ("weight", "bias")}
    two = {f"cls_{name}": tensor for name, tensor in one.items()}
    two |= {f"distillation_classifier.{kind}": heads[f"head_dist.{kind}"] for kind in ("weight", "bias")}
    with torch.no_grad():
        for folder, head, expected in (
            ("one", one, network.head(network.tokens(images)[:, 0])),
            ("two", two, network.logits(images)),
        ):
            (tmp_path / folder).mkdir()
            repo = converted(tmp_path / folder, prefixed("deit.", state) | head, TOLD)
            gives_the_same(repo, network)
            close(load(repo, AutoModelForImageClassification)(images).logits, expected)


def test_a_masked_autoencoder_of_transformers_is_its_encoder(tmp_path):
    network = vit()
    decoder = {"decoder.mask_token": torch.ones(1, 1, 24), "decoder.decoder_norm.weight": torch.ones(24)}
    repo = converted(tmp_path, prefixed("vit.", old_names(network)) | decoder, TOLD)
    assert gives_the_same(repo, network).config.architectures == ["ViTModel"]


def test_heads_and_epsilon_are_assumed(tmp_path):
    network = vit(width=128, heads=2, eps=1e-12)
    repo = converted(tmp_path, old_names(network), EncoderOptions())
    gives_the_same(repo, network)
    report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
    assert [each["what"] for each in report["assumed"] if each["of_network"]] == [
        "2 attention heads of 64 channels",
        "an epsilon of 1e-12 in all LayerNorms",
    ]


def test_a_configuration_in_the_file_tells_epsilon_and_activation(tmp_path):
    network = vit(eps=1e-2)
    for layer in network.blocks:
        layer.mlp.act = torch.relu
    configuration = {"num_attention_heads": 3, "layer_norm_eps": 1e-2, "hidden_act": "relu"}
    repo = converted(tmp_path, {"model": old_names(network), "config": configuration}, EncoderOptions())
    model = gives_the_same(repo, network)
    assert (model.config.layer_norm_eps, model.config.hidden_act) == (1e-2, "relu")
    report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
    found = [each["what"] for each in report["assumed"] if each["of_network"]]
    assert len(found) == 3 and all(
        what.endswith("as one of the networks in the file's arguments has,") for what in found
    )


def test_a_configuration_of_another_width_tells_nothing(tmp_path):
    configuration = {"hidden_size": 2 * WIDTH, "layer_norm_eps": 1e-2, "hidden_act": "silu"}
    repo = converted(tmp_path, {"model": old_names(vit()), "config": configuration})
    model = load(repo)
    assert (model.config.layer_norm_eps, model.config.hidden_act) == (1e-12, "gelu")


def test_an_activation_in_the_file_that_is_not_known_is_refused(tmp_path):
    assert "no activation is called 'mish'" in refusal(
        tmp_path, {"model": old_names(vit()), "config": {"hidden_act": "mish"}}
    )


def classifier():
    return {"classifier.weight": torch.ones(CLASSES, WIDTH), "classifier.bias": torch.ones(CLASSES)}


def pooler():
    return {"pooler.dense.weight": torch.eye(WIDTH), "pooler.dense.bias": torch.zeros(WIDTH)}


REFUSED = {
    "BEiT": ({"encoder.layer.0.lambda_1": torch.ones(WIDTH)}, [], "a BEiT"),
    "VideoMAE": (
        {"embeddings.patch_embeddings.projection.weight": torch.ones(WIDTH, 3, 2, 4, 4)}, [], "VideoMAE",
    ),
    "a classifier that may read the pooler": ({**pooler(), **classifier()}, [], "a trained pooler beside a classifier"),
    "two heads for one token": (
        {f"{kind}_{name}": tensor for kind in ("cls", "distillation") for name, tensor in classifier().items()},
        [], "its heads are cls_classifier and distillation_classifier",
    ),
    "DINOv2": ({"encoder.layer.0.layer_scale1.lambda1": torch.ones(WIDTH)}, [], "load it as Dinov2Model"),
    "YOLOS": ({"embeddings.detection_tokens": torch.ones(1, 2, WIDTH)}, [], "a YOLOS"),
    "no class token": ({}, ["embeddings.cls_token"], "without a class token"),
    "no positions": ({}, ["embeddings.position_embeddings"], "without learnt positions"),
    "positions of patches alone": (
        {"embeddings.position_embeddings": torch.ones(1, 9, WIDTH)}, [], "lack the class token's",
    ),
    "a missing block": ({}, ["encoder.layer.1."], "missing 'layers.1.layernorm_before.weight'"),
    "an unknown tensor": ({"adapter.weight": torch.ones(2, 2)}, [], "unexpected 'adapter.weight'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_vit_of_transformers_cannot_hold_is_refused_by_its_name(tmp_path, case):
    more, less, words = REFUSED[case]
    state = {name: value for name, value in old_names(vit()).items() if not name.startswith(tuple(less or ["-"]))}
    assert words in refusal(tmp_path, {"model": state | more})


@pytest.mark.parametrize("case", ["a classifier that may read the pooler", "two heads for one token"])
def test_without_its_head_the_rest_is_converted(tmp_path, case):
    network = vit()
    model = load(converted(tmp_path, old_names(network) | REFUSED[case][0], NO_HEAD))
    images = images_of(network.kind)
    with torch.no_grad():
        close(model(images).last_hidden_state, network.tokens(images))


def test_the_multimodal_encoder_keeps_its_own_files(tmp_path):
    torch.save({"model": multimodal_state()}, tmp_path / "ours.pth")
    assert choose(open_checkpoint(tmp_path / "ours.pth"), FAMILIES).network.family == "multimodal-encoder"


@NAMES
def test_the_way_back_is_exact(tmp_path, names):
    state = prefixed("vit.", names(vit()))
    torch.save(state, tmp_path / "file.pth")
    chosen = choose(open_checkpoint(tmp_path / "file.pth"), FAMILIES)
    source = recognise_encoder(chosen, ENCODERS["vit"], TOLD)
    tensors = dict(source.tensors)
    back = undo(source.plan.moves, apply(source.plan.moves, tensors))
    assert back.keys() == tensors.keys() and len(back) == len(state)
    assert all(torch.equal(back[name], state[source.source_keys[name]]) for name in back)
