"""ConvNeXt: files with the paper's names and with timm's become models of transformers that compute the same."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.conversion.families import moves
from hf_encoders.conversion.families.convnext import CONVNEXT
from hf_encoders.conversion.families.family import EncoderOptions
from tests.helpers.convnext_network import ConvNext, timm_names, torchvision_names
from tests.helpers.foreign_encoders import converted, difference, loaded, plan_of, randomise

_SIDE = 64


def _check(repo: Path, network: ConvNext, head: bool = True) -> None:
    """Compare a repo with the network that it was converted from."""
    images = torch.randn(2, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(images)
        outputs = dict(loaded(repo)(pixel_values=images))
        if head:
            outputs |= loaded(repo, "ConvNextForImageClassification")(pixel_values=images)
    outputs["pooler_output"] = outputs["pooler_output"].flatten(1)
    for name in expected if head else ("last_hidden_state", "pooler_output"):
        assert difference(outputs[name], expected[name]) < 1e-5, name


def _state_dict() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in randomise(ConvNext()).state_dict().items()}


def _config(repo: Path) -> dict[str, object]:
    config: dict[str, object] = json.loads((repo / "config.json").read_text())
    return config


def test_a_file_with_the_names_of_the_paper_becomes_a_model_that_computes_the_same(tmp_path: Path) -> None:
    network = randomise(ConvNext())
    _check(converted(tmp_path, {"model": network.state_dict(), "epoch": 299}), network)


@pytest.mark.parametrize("conv_mlp", [False, True])
def test_a_file_with_the_names_of_timm_becomes_a_model_that_computes_the_same(tmp_path: Path, conv_mlp: bool) -> None:
    network = randomise(ConvNext())
    state_dict = {f"module.{k}": v for k, v in timm_names(network.state_dict(), conv_mlp).items()}
    _check(converted(tmp_path, {"state_dict": state_dict, "arch": "convnext_tiny"}), network)


def test_a_file_with_the_names_of_torchvision_becomes_a_model_that_computes_the_same(tmp_path: Path) -> None:
    network = randomise(ConvNext(depths=(1, 2, 1, 2), widths=(4, 6, 8, 10)))
    _check(converted(tmp_path, {"model": torchvision_names(network.state_dict())}), network)


def test_a_network_without_a_layer_scale_has_none_afterwards(tmp_path: Path) -> None:
    network = randomise(ConvNext(layer_scale=False))
    repo = converted(tmp_path, network.state_dict())
    _check(repo, network)
    assert _config(repo)["layer_scale_init_value"] == 0


def test_sizes_follow_from_the_file(tmp_path: Path) -> None:
    network = randomise(ConvNext(depths=(1, 3, 2), widths=(4, 6, 10), patch=8))
    repo = converted(tmp_path, network.state_dict())
    _check(repo, network)
    config = _config(repo)
    assert (config["depths"], config["hidden_sizes"], config["patch_size"]) == ([1, 3, 2], [4, 6, 10], 8)


def test_a_backbone_without_a_norm_at_its_end_gets_one_that_is_told(tmp_path: Path) -> None:
    network = randomise(ConvNext())
    torch.nn.init.ones_(network.norm.weight)
    torch.nn.init.zeros_(network.norm.bias)
    state_dict = {k: v for k, v in network.state_dict().items() if not k.startswith(("norm.", "head."))}
    repo = converted(tmp_path, state_dict)
    _check(repo, network, head=False)
    assert json.loads((repo / "conversion_report.json").read_text())["untrained"] == ["layernorm"]


def test_a_classifier_can_be_left_out(tmp_path: Path) -> None:
    network = randomise(ConvNext())
    repo = converted(tmp_path, network.state_dict(), EncoderOptions(without_head=True))
    _check(repo, network, head=False)
    assert _config(repo)["architectures"] == ["ConvNextModel"]


def test_a_classifier_with_a_hidden_layer_is_refused_and_can_be_left_out(tmp_path: Path) -> None:
    network = randomise(ConvNext())
    state_dict = timm_names(network.state_dict()) | {
        "head.pre_logits.fc.weight": torch.ones(12, 12),
        "head.pre_logits.fc.bias": torch.ones(12),
    }
    with pytest.raises(LayoutError, match=r"hidden layer \(head.pre_logits\).*--without-head"):
        converted(tmp_path, state_dict)
    _check(converted(tmp_path, state_dict, EncoderOptions(without_head=True)), network, head=False)


def test_another_activation_may_be_said(tmp_path: Path) -> None:
    network = randomise(ConvNext(activation=torch.nn.ReLU()))
    _check(converted(tmp_path, network.state_dict(), EncoderOptions(hidden_act="relu")), network)


@pytest.mark.parametrize(
    "names",
    [dict, timm_names, partial(timm_names, conv_mlp=True), torchvision_names],
    ids=["paper", "timm", "timm with convolutions", "torchvision"],
)
def test_every_tensor_comes_back_the_same(names: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    state_dict = names(_state_dict())
    plan = plan_of(CONVNEXT, state_dict)
    ours = {CONVNEXT.canonical(name): tensor for name, tensor in state_dict.items()}
    back = moves.undo(plan.moves, moves.apply(plan.moves, ours))
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.items())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stem.1.weight": torch.ones(6, 6, 3, 3)}, "with an overlapping stem"),
        ({"stem.2.weight": torch.ones(6), "stem.2.bias": torch.ones(6)}, "with an overlapping stem"),
        ({"stages.0.downsample.0.weight": torch.ones(6)}, "whose first stage downsamples"),
        ({"norm_pre.weight": torch.ones(12), "head.norm.weight": None}, "normalises before it pools"),
        ({"norm2.weight": torch.ones(12)}, "a detector's backbone"),
        ({"norms.3.weight": torch.ones(12)}, "DINOv3ConvNextModel"),
        ({"stages.1.blocks.0.xca.qkv.weight": torch.ones(3)}, "an EdgeNeXt"),
        ({"stages.1.blocks.0.shortcut.conv.weight": torch.ones(3)}, "shortcuts with weights"),
        ({"stages.0.blocks.0.norm.bias": None}, "norms without a bias"),
        ({"stages.1.blocks.1.conv_dw.bias": None}, "missing 'stages.1.1.dwconv.bias'"),
        ({"stages.1.blocks.0.gamma": None}, "missing 'stages.1.0.gamma'"),
        ({"head.norm.weight": None, "head.norm.bias": None}, "missing 'norm.weight'"),
        ({"stages.1.blocks.1.se.weight": torch.ones(3)}, "unexpected 'stages.1.blocks.1.se.weight'"),
        ({"stages.0.blocks.0.conv_dw.weight": torch.ones(6, 1, 5, 5)}, r"conv_dw.weight' has shape \[6, 1, 5, 5\]"),
        ({"stages.0.blocks.0.mlp.fc1.weight": torch.ones(18, 6)}, r"fc1.weight' has shape \[18, 6\]"),
    ],
)
def test_what_conv_next_model_cannot_hold_is_refused(
    tmp_path: Path, changes: dict[str, Tensor | None], reason: str
) -> None:
    state_dict = timm_names(_state_dict()) | changes
    with pytest.raises(LayoutError, match=reason) as caught:
        converted(tmp_path, {name: tensor for name, tensor in state_dict.items() if tensor is not None})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", range(2))
def test_a_missing_block_is_named(stage: int) -> None:
    state_dict = {name: x for name, x in _state_dict().items() if not name.startswith(f"stages.{stage}.0.")}
    with pytest.raises(LayoutError, match=rf"'stages.{stage}.0.dwconv.weight'"):
        plan_of(CONVNEXT, state_dict)


def test_another_epsilon_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="leave --layer-norm-eps out"):
        converted(tmp_path, _state_dict(), EncoderOptions(layer_norm_eps=1e-5))


def test_an_activation_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="--hidden-act mish is not known"):
        converted(tmp_path, _state_dict(), EncoderOptions(hidden_act="mish"))


def test_an_xxlarge_has_another_epsilon_unless_a_person_knows_better() -> None:
    with torch.device("meta"):
        state_dict = dict(ConvNext(depths=(3, 4, 30, 3), widths=(384, 8, 8, 8)).state_dict())
    with pytest.raises(LayoutError, match="ConvNeXt-XXLarge.*--layer-norm-eps 1e-06"):
        plan_of(CONVNEXT, state_dict)
    assert plan_of(CONVNEXT, state_dict, EncoderOptions(layer_norm_eps=1e-6)).settings["layer_norm_eps"] == 1e-6


def test_images_are_prepared_as_the_paper_does() -> None:
    images = plan_of(CONVNEXT, _state_dict()).images
    assert images is not None
    assert (images.size, images.likely_size, images.crop, images.resample) == (None, 224, 0.875, "bicubic")
