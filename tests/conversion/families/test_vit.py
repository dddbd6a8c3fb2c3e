"""ViT and DeiT: files of timm, DeiT, DINO, MAE, MoCo v3 and torchvision become repos that give the same numbers."""

import argparse
import json

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageClassification

from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.checkpoints.files import open_checkpoint
from hf_encoders.checkpoints.finding.choice import WeightsWanted, choose
from hf_encoders.conversion.encoders.source import recognise_encoder
from hf_encoders.conversion.families.encoders import ENCODERS
from hf_encoders.conversion.families.family import EncoderOptions
from hf_encoders.conversion.families.moves import apply, undo
from hf_encoders.conversion.families.names import FAMILIES
from hf_encoders.conversion.verify_repo import verify_repo
from tests.helpers.vit_networks import (
    CLASSES,
    HEADS,
    WIDTH,
    Kind,
    close,
    converted,
    gives_the_same,
    images_of,
    load,
    prefixed,
    randomise,
    vit,
)

NO_HEAD = EncoderOptions(attention_heads=(3,), without_head=True)


def plan_of(folder, content, options=HEADS):
    torch.save(content, folder / "planned.pth")
    chosen = choose(open_checkpoint(folder / "planned.pth"), FAMILIES)
    return recognise_encoder(chosen, ENCODERS[chosen.network.family], options)


def assumed(repo):
    report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
    return {each["quantity"]: (each["what"], each["options"]) for each in report["assumed"] if each["of_network"]}


def refusal(folder, content, options=HEADS):
    with pytest.raises(LayoutError) as caught:
        converted(folder, content, options)
    line = str(caught.value)
    assert line.startswith(f"{folder / 'file.pth'}: ") and "\n" not in line
    return line


def test_a_classifier_of_timm_gives_logits_and_tokens(tmp_path):
    network = vit(classes=CLASSES)
    repo = converted(tmp_path, {"state_dict": prefixed("module.", network.state_dict()), "epoch": 3})
    model = gives_the_same(repo, network)
    assert type(model).__name__ == "ViTModel" and model.config.architectures == ["ViTForImageClassification"]
    images = images_of(network.kind)
    with torch.no_grad():
        close(load(repo, AutoModelForImageClassification)(images).logits, network.logits(images))


def test_a_head_is_left_out_when_asked_for(tmp_path):
    network = vit(classes=CLASSES)
    repo = converted(tmp_path, network.state_dict(), NO_HEAD)
    assert gives_the_same(repo, network).config.architectures == ["ViTModel"]
    report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
    assert report["dropped"] == ["head.weight", "head.bias"]


def test_a_classifier_without_bias_has_one_of_zeros(tmp_path):
    network = vit(classes=CLASSES)
    network.head.bias = None
    repo, images = converted(tmp_path, network.state_dict()), images_of(network.kind)
    with torch.no_grad():
        close(load(repo, AutoModelForImageClassification)(images).logits, network.logits(images))


def test_a_distilled_deit_has_two_tokens_and_two_heads(tmp_path):
    network = vit(classes=CLASSES, distilled=True)
    repo, images = converted(tmp_path, {"model": network.state_dict()}), images_of(network.kind)
    model = gives_the_same(repo, network)
    assert model.config.architectures == ["DeiTForImageClassificationWithTeacher"]
    with torch.no_grad():
        close(load(repo, AutoModelForImageClassification)(images).logits, network.logits(images))


def test_a_distilled_deit_without_heads_is_a_deit(tmp_path):
    network = vit(distilled=True)
    assert gives_the_same(converted(tmp_path, network.state_dict()), network).config.architectures == ["DeiTModel"]


def test_dino_has_its_backbone_beside_heads(tmp_path):
    student, teacher = vit(), randomise(vit(), seed=5)
    heads = {"head.mlp.0.weight": torch.ones(4, WIDTH), "head.last_layer.weight_g": torch.ones(4, 1)}
    content = {
        "student": prefixed("module.", prefixed("backbone.", student.state_dict()) | heads),
        "teacher": prefixed("backbone.", teacher.state_dict()) | heads,
    }
    gives_the_same(converted(tmp_path, content, weights=WeightsWanted("teacher")), teacher)


def test_mae_is_its_encoder_alone(tmp_path):
    network, small = vit(), vit(width=24, heads=2, depth=1)
    decoder = {f"decoder_{name}": tensor for name, tensor in small.state_dict().items() if name != "cls_token"}
    decoder = {name: tensor for name, tensor in decoder.items() if "patch_embed" not in name}
    decoder |= {"mask_token": torch.ones(1, 1, 24), "decoder_embed.weight": torch.ones(24, WIDTH)}
    repo = converted(tmp_path, {"model": network.state_dict() | decoder})
    assert gives_the_same(repo, network).config.architectures == ["ViTModel"]
    report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
    assert sorted(report["dropped"]) == sorted(decoder)
    assert any("decoder of a masked autoencoder" in note for note in report["source"]["weights"]["notes"])


def test_moco_v3_has_heads_of_several_layers_and_twelve_heads_in_its_small_network(tmp_path):
    network = vit(width=384, heads=12, depth=1, mlp=64)
    mlp = {"head.0.weight": torch.ones(4, 384), "head.1.running_mean": torch.ones(4)}
    base = prefixed("module.base_encoder.", network.state_dict() | mlp)
    predictor = {"module.predictor.0.weight": torch.ones(4, 4)}
    momentum = prefixed("module.momentum_encoder.", randomise(vit(width=384, depth=1, mlp=64), 5).state_dict() | mlp)
    content = {"arch": "vit_small", "state_dict": base | momentum | predictor}
    repo = converted(tmp_path, content, EncoderOptions())
    assert gives_the_same(repo, network).config.num_attention_heads == 12
    assert assumed(repo)["heads"] == ("12 attention heads of 32 channels, as MoCo v3,", ["--attention-heads"])


class TorchvisionBlock(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.ln_1, self.ln_2 = (nn.LayerNorm(kind.width, 1e-6) for _ in range(2))
        self.self_attention = nn.MultiheadAttention(kind.width, kind.heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(kind.width, kind.mlp), nn.GELU(), nn.Dropout(0.1))
        self.mlp.extend([nn.Linear(kind.mlp, kind.width)])

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TorchvisionVit(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.class_token = nn.Parameter(torch.empty(1, 1, kind.width))
        self.conv_proj = nn.Conv2d(3, kind.width, kind.patch, kind.patch)
        self.encoder = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.empty(1, 1 + kind.grid[0] * kind.grid[1], kind.width))
        blocks = {f"encoder_layer_{number}": TorchvisionBlock(kind) for number in range(kind.depth)}
        self.encoder.layers = nn.ModuleDict(blocks)
        self.encoder.ln = nn.LayerNorm(kind.width, 1e-6)
        self.heads = nn.ModuleDict({"head": nn.Linear(kind.width, kind.classes)})
        randomise(self)

    def tokens(self, images):
        x = self.conv_proj(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.encoder.pos_embedding
        for block in self.encoder.layers.values():
            x = block(x)
        return self.encoder.ln(x)


def test_torchvision_has_other_names_for_the_same(tmp_path):
    network = TorchvisionVit(Kind(classes=CLASSES))
    repo, images = converted(tmp_path, {"model": network.state_dict()}), images_of(network.kind)
    gives_the_same(repo, network)
    with torch.no_grad():
        logits = network.heads["head"](network.tokens(images)[:, 0])
        close(load(repo, AutoModelForImageClassification)(images).logits, logits)


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": "patches"},
        {"qkv_bias": False},
        {"channels": 1, "patch": (4, 2), "grid": (2, 4)},
        {"eps": 1e-3},
    ],
    ids=str,
)
def test_what_shapes_and_options_tell(tmp_path, changes):
    network = vit(**changes)
    content = {"model": network.state_dict(), "args": argparse.Namespace(img_size=[8, 8])}
    options = EncoderOptions(attention_heads=(3,), layer_norm_eps=network.kind.eps)
    gives_the_same(converted(tmp_path, content, options), network)


def test_the_file_tells_which_rectangle_its_images_are(tmp_path):
    network = vit(grid=(2, 5))
    line = refusal(tmp_path, network.state_dict())
    assert "has 11 positions, which are no square of patches" in line
    content = {"model": network.state_dict(), "args": {"img_size": [8, 20]}}
    config = gives_the_same(converted(tmp_path, content), network).config
    assert config.image_size == [8, 20] and config.patch_size == 4
    verify_repo(str(tmp_path / "repo"))
    verify_repo(str(tmp_path / "repo"), tmp_path / "file.pth")


def test_patches_that_are_not_square_make_a_square_image_first(tmp_path):
    network = vit(grid=(3, 6), patch=(8, 4))
    model = gives_the_same(converted(tmp_path, {"model": network.state_dict()}), network)
    assert model.config.image_size == 24


def test_pre_logits_are_the_pooler(tmp_path):
    network = vit(pooler=20)
    repo, images = converted(tmp_path, network.state_dict()), images_of(network.kind)
    with torch.no_grad():
        tokens, outputs = network.tokens(images), load(repo)(images)
        close(outputs.last_hidden_state, tokens)
        close(outputs.pooler_output, torch.tanh(network.pre_logits["fc"](tokens[:, 0])))


def test_heads_and_epsilon_are_assumed_until_they_are_told(tmp_path):
    network = vit(width=128, heads=2)
    repo = converted(tmp_path, network.state_dict(), EncoderOptions())
    gives_the_same(repo, network)
    assert assumed(repo) == {
        "heads": ("2 attention heads of 64 channels", ["--attention-heads"]),
        "epsilon": ("an epsilon of 1e-06 in all LayerNorms", ["--layer-norm-eps"]),
    }
    options = EncoderOptions(attention_heads=(2,), layer_norm_eps=1e-6)
    assert not plan_of(tmp_path, network.state_dict(), options).plan.assumed


def heads_of(folder, width, **metadata):
    state = vit(width=width, heads=1, depth=1, mlp=8, grid=(1, 1)).state_dict()
    plan = plan_of(folder, {"state_dict": state, **metadata}, EncoderOptions()).plan
    return plan.settings["num_attention_heads"], "heads" in {each.quantity for each in plan.assumed}


@pytest.mark.parametrize(
    ("width", "metadata", "expected"),
    [
        (192, {"arch": "vit_tiny_patch16_224"}, (3, False)),
        (192, {"arch": "vit_base_patch16_224"}, (3, True)),  # the width is another
        (384, {"args": argparse.Namespace(arch="vit_small", patch_size=8)}, (6, False)),  # DINO
        (384, {"arch": "vit_small"}, (6, True)),  # DINO's or MoCo v3's
        (384, {"args": {"model": "deit_small_patch16_224", "model_kwargs": {"num_heads": 4}}}, (4, False)),
        (384, {"config": {"num_heads": 8}}, (8, True)),  # of whatever part
        (1280, {}, (16, True)),
    ],
)
def test_the_names_of_published_networks_tell_their_heads(tmp_path, width, metadata, expected):
    assert heads_of(tmp_path, width, **metadata) == expected


def test_the_activation_is_as_told(tmp_path):
    state = vit().state_dict()
    assert plan_of(tmp_path, state).plan.settings["hidden_act"] == "gelu"
    options = EncoderOptions(attention_heads=(3,), hidden_act="quick_gelu")
    assert load(converted(tmp_path, state, options)).config.hidden_act == "quick_gelu"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EncoderOptions(), "nothing tells the number of heads of a width of 48; say it with --attention-heads"),
        (EncoderOptions(attention_heads=(5,)), "5 heads do not divide its width of 48"),
        (EncoderOptions(attention_heads=(3, 3)), "give one number to --attention-heads"),
        (EncoderOptions(attention_heads=(3,), hidden_act="mish"), "no activation is called 'mish'"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, words):
    assert words in refusal(tmp_path, vit().state_dict(), options)


def changed(**changes):
    """A state dict of timm; None takes a tensor out, and a number makes an empty one of that width."""
    state = dict(vit(classes=CLASSES).state_dict())
    for name, value in changes.items():
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


ONE = torch.ones(WIDTH)
RELATIVES = {
    "hybrid": ({"patch_embed.backbone.stem.conv.weight": torch.ones(4, 3, 7, 7)}, "a hybrid ViT"),
    "CLIP": ({"norm_pre.weight": ONE}, "norm_pre"),
    "SAM": ({"blocks.0.attn.rel_pos_h": torch.ones(5, 16)}, "SAM"),
    "EVA": ({"blocks.0.attn.q_proj.weight": torch.ones(WIDTH, WIDTH)}, "EVA"),
    "AIMv2": ({"blocks.0.mlp.fc1_g.weight": torch.ones(8, WIDTH)}, "as EVA and AIMv2"),
    "DINOv3": ({"rope_embed.periods": torch.ones(8)}, "rotary positions"),
    "CaiT": ({"blocks.0.attn.proj_l.weight": torch.ones(3, 3)}, "CaiT"),
    "BEiT": ({"blocks.0.attn.q_bias": ONE}, "BEiT"),
    "BEiT with layer scale": ({"blocks.0.gamma_1": ONE, "blocks.0.attn.v_bias": ONE}, "BEiT"),
    "qk_norm": ({"blocks.0.attn.q_norm.weight": torch.ones(16)}, "qk_norm"),
    "inner norms": ({"blocks.0.mlp.norm.weight": torch.ones(72)}, "norms within its blocks"),
    "SigLIP": ({"attn_pool.latent": torch.ones(1, 1, WIDTH)}, "attention pooling"),
    "VideoMAE": ({"patch_embed.proj.weight": torch.ones(WIDTH, 3, 2, 4, 4)}, "VideoMAE"),
    "no class token": ({"cls_token": None}, "without a class token"),
    "no positions": ({"pos_embed": None}, "without learnt positions"),
    "no final norm": (
        {"norm.weight": None, "norm.bias": None, "fc_norm.weight": ONE, "fc_norm.bias": ONE},
        "a global-pooled ViT without final norm",
    ),
    "mean pooling": ({"fc_norm.weight": ONE, "fc_norm.bias": ONE}, "its classifier reads the mean of the patches"),
    "pre_logits": ({"pre_logits.fc.weight": torch.ones(WIDTH, WIDTH), "pre_logits.fc.bias": ONE}, "reads pre_logits"),
    "one head too many": ({"head_dist.weight": torch.ones(CLASSES, WIDTH)}, "a DeiT needs both"),
    "SwiGLU": ({f"blocks.{n}.mlp.fc2.weight": torch.ones(WIDTH, 36) for n in range(3)}, "gated MLPs (SwiGLU)"),
    "a missing block": (
        {name: None for name in vit().state_dict() if name.startswith("blocks.1.")},
        "missing 'blocks.1.norm1.weight'",
    ),
    "a missing tensor": ({"blocks.2.mlp.fc2.bias": None}, "missing 'blocks.2.mlp.fc2.bias'"),
    "an unknown tensor": ({"adapter.weight": torch.ones(2, 2)}, "unexpected 'adapter.weight'"),
    "another width": ({"blocks.1.mlp.fc1.weight": torch.ones(71, WIDTH)}, "'blocks.1.mlp.fc1.weight' has shape"),
    "an odd head": ({"head.weight": torch.ones(CLASSES, 7)}, "'head.weight' has shape [3, 7]"),
    "odd positions": ({"pos_embed": torch.ones(1, 12, WIDTH)}, "has 12 positions"),
}


@pytest.mark.parametrize("case", RELATIVES)
def test_what_a_vit_of_transformers_cannot_hold_is_refused_by_its_name(tmp_path, case):
    changes, words = RELATIVES[case]
    assert words in refusal(tmp_path, {"model": changed(**changes)})


@pytest.mark.parametrize("arguments", [{"global_pool": "avg"}, {"model_kwargs": {"global_pool": "avg"}}])
def test_mean_pooling_is_refused_by_the_arguments_too(tmp_path, arguments):
    content = {"model": vit(classes=CLASSES).state_dict(), "args": argparse.Namespace(**arguments)}
    assert "--without-head converts the rest" in refusal(tmp_path, content)


@pytest.mark.parametrize("case", ["mean pooling", "pre_logits", "one head too many"])
def test_without_its_head_the_rest_is_converted(tmp_path, case):
    state = {"model": changed(**RELATIVES[case][0])}
    model = load(converted(tmp_path, state, NO_HEAD))
    images = images_of(Kind())
    with torch.no_grad():
        close(model(images).last_hidden_state, vit(classes=CLASSES).tokens(images))


@pytest.mark.parametrize(
    "changes",
    [{"classes": CLASSES}, {"distilled": True, "classes": CLASSES}, {"positions": "patches"}, {"pooler": 20}],
    ids=str,
)
def test_the_way_back_is_exact(tmp_path, changes):
    source = plan_of(tmp_path, vit(**changes).state_dict())
    tensors = dict(source.tensors)
    back = undo(source.plan.moves, apply(source.plan.moves, tensors))
    assert back.keys() == tensors.keys() == vit(**changes).state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
