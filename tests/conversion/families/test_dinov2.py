"""DINOv2 and other ViTs with layer scale: files of Meta and timm become repos that give the same numbers."""

import argparse
import json
import re

import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.checkpoints.files import open_checkpoint
from hf_encoders.checkpoints.finding.choice import choose
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
    close,
    converted,
    gives_the_same,
    images_of,
    load,
    prefixed,
    vit,
)

META = {"layer_scale": True, "mask_token": True, "mlp": 4 * WIDTH}
TIMM = {"layer_scale": True, "mlp": 4 * WIDTH, "positions": "patches"}
GATED = 128  # two thirds of 4 * 48, which is a multiple of eight
ONE = torch.ones(WIDTH)


def chunked(state, size=2):
    """Meta's names while it trains: blocks.CHUNK.N, where N counts the blocks of all chunks."""
    names = {}
    for name in state:
        first, _, rest = name.removeprefix("blocks.").partition(".")
        names[name] = f"blocks.{int(first) // size}.{first}.{rest}" if name.startswith("blocks.") else name
    return {names[name]: tensor for name, tensor in state.items()}


def plan_of(folder, content, options=HEADS):
    torch.save(content, folder / "planned.pth")
    chosen = choose(open_checkpoint(folder / "planned.pth"), FAMILIES)
    return recognise_encoder(chosen, ENCODERS[chosen.network.family], options)


def refusal(folder, content, options=HEADS):
    with pytest.raises(LayoutError) as caught:
        converted(folder, content, options)
    return str(caught.value)


CASES = {
    "Meta's": ({**META}, "Dinov2Model"),
    "Meta's with registers": ({**META, "registers": ("register_tokens", 4)}, "Dinov2WithRegistersModel"),
    "Meta's with SwiGLU": ({**META, "gated": "w12", "mlp": GATED}, "Dinov2Model"),
    "timm's": ({**TIMM}, "Dinov2Model"),
    "timm's with the class token's position": ({**TIMM, "positions": "all"}, "Dinov2Model"),
    "timm's with registers": ({**TIMM, "registers": ("reg_token", 2)}, "Dinov2WithRegistersModel"),
    "timm's with SwiGLU": ({**TIMM, "gated": "fc1", "mlp": GATED}, "Dinov2Model"),
    "registers without layer scale": ({"registers": ("register_tokens", 1), "mlp": 48}, "Dinov2WithRegistersModel"),
    "no bias of query, key and value": ({**META, "qkv_bias": False, "channels": 1}, "Dinov2Model"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_of_the_network(tmp_path, case):
    changes, architecture = CASES[case]
    network = vit(**changes)
    repo = converted(tmp_path, {"model": prefixed("teacher.backbone.", network.state_dict())})
    assert gives_the_same(repo, network).config.architectures == [architecture]


def test_blocks_in_chunks_are_counted_through(tmp_path):
    network = vit(**META, depth=5)
    state = chunked(network.state_dict())
    assert "blocks.2.4.ls1.gamma" in state and "blocks.1.2.norm1.weight" in state
    head = {"teacher.dino_head.h.mlp.0.weight": torch.ones(4, WIDTH)}
    repo = converted(tmp_path, {"model": prefixed("teacher.backbone.", state) | head})
    assert gives_the_same(repo, network).config.num_hidden_layers == 5


def test_chunks_alone_tell_the_family(tmp_path):
    network = vit(mlp=2 * WIDTH)
    assert gives_the_same(converted(tmp_path, chunked(network.state_dict())), network).config.mlp_ratio == 2


def test_deit_iii_calls_its_layer_scale_otherwise(tmp_path):
    network = vit(**TIMM, classes=CLASSES)
    state = {re.sub(r"ls(\d)\.gamma", r"gamma_\1", name): value for name, value in network.state_dict().items()}
    assert "blocks.0.gamma_1" in state
    repo, images = converted(tmp_path, {"model": state}), images_of(network.kind)
    gives_the_same(repo, network)
    with torch.no_grad():
        close(load(repo, AutoModelForImageClassification)(images).logits, network.logits(images))


def test_the_mask_token_is_carried_over(tmp_path):
    network = vit(**META)
    model = load(converted(tmp_path, network.state_dict()))
    assert torch.equal(model.embeddings.mask_token, network.mask_token)


@pytest.mark.parametrize("registers", [None, ("reg_token", 2)])
def test_a_classifier_of_timm_reads_the_class_token(tmp_path, registers):
    network = vit(**TIMM, classes=CLASSES, registers=registers)
    repo, images = converted(tmp_path, network.state_dict()), images_of(network.kind)
    gives_the_same(repo, network)
    with torch.no_grad():
        close(load(repo, AutoModelForImageClassification)(images).logits, network.logits(images))


def test_a_head_is_left_out_when_asked_for(tmp_path):
    network = vit(**TIMM, classes=CLASSES)
    repo = converted(tmp_path, network.state_dict(), EncoderOptions(attention_heads=(3,), without_head=True))
    assert gives_the_same(repo, network).config.architectures == ["Dinov2Model"]
    report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
    assert report["dropped"] == ["head.weight", "head.bias"]


def test_heads_and_epsilon_are_assumed(tmp_path):
    network = vit(width=128, heads=2, layer_scale=True, mlp=256, mask_token=True)
    repo = converted(tmp_path, network.state_dict(), EncoderOptions())
    gives_the_same(repo, network)
    report = json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))
    assert [each["quantity"] for each in report["assumed"] if each["of_network"]] == ["heads", "epsilon"]
    options = EncoderOptions(attention_heads=(2,), layer_norm_eps=1e-6)
    assert not plan_of(tmp_path, network.state_dict(), options).plan.assumed


def test_another_epsilon_is_taken(tmp_path):
    network = vit(**META, eps=1e-2)
    repo = converted(tmp_path, network.state_dict(), EncoderOptions(attention_heads=(3,), layer_norm_eps=1e-2))
    gives_the_same(repo, network)


def changed(kind=META, **changes):
    """A state dict; None takes a tensor out."""
    state = dict(vit(**kind).state_dict())
    for name, value in changes.items():
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


REFUSED = {
    "an odd MLP": (lambda: changed({**META, "mlp": 100}), "its MLPs are 100 wide beside a width of 48"),
    "an odd SwiGLU": (lambda: changed({**META, "gated": "w12", "mlp": 100}), "two thirds of a multiple of its width"),
    "DeiT III, distilled": (lambda: changed(dist_token=torch.ones(1, 1, WIDTH)), "a distilled DeiT with layer scale"),
    "positions of registers": (
        lambda: changed({**TIMM, "positions": "all", "registers": ("reg_token", 2)}),
        "positions for its class token or registers",
    ),
    "DINOv3": (lambda: changed(storage_tokens=torch.ones(1, 4, WIDTH), pos_embed=None), "as DINOv3"),
    "qk_norm": (lambda: changed(**{"blocks.0.attn.q_norm.weight": torch.ones(16)}), "qk_norm"),
    "BEiT": (lambda: changed(**{"blocks.0.attn.relative_position_bias_table": torch.ones(9, 3)}), "a BEiT"),
    "no class token": (lambda: changed(cls_token=None), "without a class token"),
    "mean pooling": (
        lambda: changed({**TIMM, "classes": CLASSES}, **{"fc_norm.weight": ONE, "fc_norm.bias": ONE}),
        "reads the mean of the patches alone",
    ),
    "a missing block": (
        lambda: changed(**{name: None for name in vit(**META).state_dict() if name.startswith("blocks.1.")}),
        "missing 'blocks.1.norm1.weight'",
    ),
    "a missing scale": (lambda: changed(**{"blocks.1.ls2.gamma": None}), "missing 'blocks.1.ls2.gamma'"),
    "an unknown tensor": (lambda: changed(**{"adapter.weight": torch.ones(2, 2)}), "unexpected 'adapter.weight'"),
    "a narrow block": (lambda: changed(**{"blocks.1.ls1.gamma": torch.ones(7)}), "'blocks.1.ls1.gamma' has shape [7]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_classes_cannot_hold_is_refused_by_its_name(tmp_path, case):
    make, words = REFUSED[case]
    assert words in refusal(tmp_path, {"model": make()})


def test_images_that_are_not_square_are_refused(tmp_path):
    content = {"model": vit(**META, grid=(2, 5)).state_dict(), "args": argparse.Namespace(img_size=(8, 20))}
    assert "for images that are not square" in refusal(tmp_path, content)


def test_the_activation_of_gated_mlps_is_no_option(tmp_path):
    state = vit(**META | {"gated": "w12", "mlp": GATED}).state_dict()
    assert "leave --hidden-act out" in refusal(tmp_path, state, EncoderOptions(attention_heads=(3,), hidden_act="relu"))


def test_gated_mlps_are_verified_again(tmp_path):
    repo = converted(tmp_path, vit(**META | {"gated": "w12", "mlp": GATED}).state_dict())
    verify_repo(str(repo))
    verify_repo(str(repo), tmp_path / "file.pth")


@pytest.mark.parametrize("case", [*CASES, "a classifier"])
def test_the_way_back_is_exact(tmp_path, case):
    changes = {**TIMM, "classes": CLASSES} if case == "a classifier" else CASES[case][0]
    source = plan_of(tmp_path, vit(**changes).state_dict())
    tensors = dict(source.tensors)
    back = undo(source.plan.moves, apply(source.plan.moves, tensors))
    assert back.keys() == tensors.keys() == vit(**changes).state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
