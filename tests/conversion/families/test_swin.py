"""Swin Transformer: files with Microsoft's names, timm's and torchvision's become models that compute the same."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.encoders.conversion import InputOptions
from hf_encoders.conversion.encoders.images import ImageOptions
from hf_encoders.conversion.families import moves
from hf_encoders.conversion.families.family import EncoderOptions
from hf_encoders.conversion.families.swin import SWIN
from hf_encoders.models.input_errors import InputError
from tests.helpers.foreign_encoders import converted, difference, loaded, plan_of, randomise
from tests.helpers.swin_network import PATCH, WINDOW, Swin, torchvision_names, with_buffers

NATIVE = PATCH * WINDOW * 2  # pixels, so that the last of two stages is one window
_TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"


def _images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def _check(repo: Path, network: Swin, side: int, head: bool = True) -> None:
    """Compare a repo with the network that it was converted from."""
    images = _images(side)
    with torch.inference_mode():
        expected = network(images)
        outputs = dict(loaded(repo)(pixel_values=images))
        if head:
            outputs |= loaded(repo, "SwinForImageClassification")(pixel_values=images)
    for name in expected if head else ("last_hidden_state", "pooler_output"):
        assert difference(outputs[name], expected[name]) < 1e-5, name


def _state_dict(**sizes: object) -> dict[str, Tensor]:
    network = randomise(Swin(**sizes))
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("timm", [False, True])
@pytest.mark.parametrize("side", [NATIVE, 2 * NATIVE])
def test_a_file_becomes_a_model_that_computes_the_same(tmp_path: Path, timm: bool, side: int) -> None:
    network = randomise(Swin(timm))
    state_dict = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    repo = converted(tmp_path, {"model": state_dict, "epoch": 3})
    _check(repo, network, side)


def test_a_file_of_microsoft_has_buffers_that_tell_the_size_of_its_images(tmp_path: Path) -> None:
    network = randomise(Swin())
    repo = converted(tmp_path, {"model": with_buffers(network.state_dict(), 2 * NATIVE)})
    _check(repo, network, 2 * NATIVE)
    assert json.loads((repo / "config.json").read_text())["image_size"] == 2 * NATIVE
    keys = json.loads((repo / "conversion_report.json").read_text())["keys"]
    assert keys["layers.0.blocks.1.attn_mask"] is None


def test_a_file_with_the_names_of_torchvision_becomes_a_model_that_computes_the_same(tmp_path: Path) -> None:
    network = randomise(Swin(depths=(1, 2, 1, 2), heads=(1, 2, 4, 4)))
    state_dict = torchvision_names(with_buffers(network.state_dict(), 4 * NATIVE))
    _check(converted(tmp_path, {"model": state_dict}), network, 4 * NATIVE)


def test_windows_of_an_even_size_are_shifted_by_half(tmp_path: Path) -> None:
    network = randomise(Swin(window=4))
    repo = converted(tmp_path, with_buffers(network.state_dict(), 32, window=4))
    _check(repo, network, 32)


def test_absolute_positions_tell_the_size_of_the_images(tmp_path: Path) -> None:
    network = randomise(Swin(positions=12))
    repo = converted(tmp_path, network.state_dict())
    _check(repo, network, 24)
    assert json.loads((repo / "config.json").read_text())["image_size"] == 24


@pytest.mark.parametrize(
    "sizes",
    [
        {"bias": False},
        {"depths": (3,), "heads": (2,)},
        {"depths": (1, 2, 1), "heads": (1, 2, 4), "timm": True},
        {"ratio": 3.3, "width": 12},
    ],
    ids=["no bias of query, key and value", "one stage", "three stages", "another ratio of the hidden layer"],
)
def test_other_sizes_follow_from_the_file(tmp_path: Path, sizes: dict[str, object]) -> None:
    network = randomise(Swin(**sizes))
    _check(converted(tmp_path, network.state_dict()), network, 4 * NATIVE)


def test_a_network_that_was_trained_on_masked_images_has_no_head(tmp_path: Path) -> None:
    network = randomise(Swin())
    state_dict = {f"encoder.{k}": v for k, v in network.state_dict().items() if not k.startswith("head.")}
    state_dict |= {"encoder.mask_token": torch.ones(1, 1, 8), "decoder.0.weight": torch.ones(12, 16, 1, 1)}
    repo = converted(tmp_path, {"model": state_dict})
    _check(repo, network, NATIVE, head=False)
    report = json.loads((repo / "conversion_report.json").read_text())
    assert report["architecture"] == "SwinModel"
    assert {"encoder.mask_token", "decoder.0.weight"} <= {key for key, name in report["keys"].items() if name is None}


def test_a_classifier_can_be_left_out(tmp_path: Path) -> None:
    network = randomise(Swin(timm=True))
    repo = converted(tmp_path, network.state_dict(), EncoderOptions(without_head=True))
    _check(repo, network, NATIVE, head=False)
    assert json.loads((repo / "config.json").read_text())["architectures"] == ["SwinModel"]


@pytest.mark.parametrize("names", ["Microsoft", "timm", "torchvision"])
def test_every_tensor_comes_back_the_same(names: str) -> None:
    state_dict = _state_dict(timm=names == "timm")
    state_dict = state_dict if names == "timm" else with_buffers(state_dict, 2 * NATIVE)
    state_dict = torchvision_names(state_dict) if names == "torchvision" else state_dict
    plan = plan_of(SWIN, state_dict)
    ours = {SWIN.canonical(name): tensor for name, tensor in state_dict.items()}
    back = moves.undo(plan.moves, moves.apply(plan.moves, ours))
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.items())


def test_the_likely_size_of_images_is_that_of_one_window_in_the_last_stage() -> None:
    images = plan_of(SWIN, _state_dict()).images
    assert images is not None
    assert (images.size, images.likely_size, images.crop) == (None, NATIVE, 0.9)
    images = plan_of(SWIN, with_buffers(_state_dict(), 2 * NATIVE)).images
    assert images is not None
    assert images.size == 2 * NATIVE


def test_a_mask_of_a_later_stage_tells_the_size_of_the_images() -> None:
    state_dict = with_buffers(_state_dict(depths=(1, 2, 1), heads=(1, 2, 4)), 4 * NATIVE)
    assert [name for name in state_dict if name.endswith("attn_mask")] == ["layers.1.blocks.1.attn_mask"]
    images = plan_of(SWIN, state_dict).images
    assert images is not None
    assert images.size == 4 * NATIVE


def test_the_images_of_the_verification_have_windows_to_shift() -> None:
    one, two = plan_of(SWIN, _state_dict(depths=(2,), heads=(2,))), plan_of(SWIN, _state_dict())
    for plan in (one, two):
        assert plan.inputs["pixel_values"].shape[-1] // PATCH > WINDOW


@pytest.mark.parametrize("into", [56, 96, 104])
def test_the_width_of_the_hidden_layer_is_a_ratio_of_the_channels_as_transformers_rounds_it(into: int) -> None:
    state_dict = _state_dict(depths=(1,), heads=(2,))
    for hidden in range(1, 5 * into):
        state_dict["layers.0.blocks.0.mlp.fc1.weight"] = torch.empty(hidden, into, device="meta")
        ratio = plan_of(SWIN, state_dict).settings["mlp_ratio"]
        assert isinstance(ratio, float)
        assert int(ratio * into) == hidden


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layers.0.blocks.0.attn.logit_scale": torch.ones(2, 1, 1)}, "a Swin Transformer V2"),
        ({"patch_embed.norm.weight": None, "patch_embed.norm.bias": None}, "without a norm after its patches"),
        ({"norm0.weight": torch.ones(8)}, "with a norm for each stage"),
        ({_TABLE: torch.ones(15, 2)}, "of windows that are no squares"),
        ({_TABLE: torch.ones(9, 2)}, r"of several sizes \(2 by 'layers.0.blocks.0"),
        ({_TABLE: torch.ones(25, 3)}, "3 attention heads do not divide the 8 channels"),
        ({"layers.1.blocks.1.norm1.weight": None}, "missing 'layers.1.blocks.1.norm1.weight'"),
        ({f"layers.0.blocks.1.{name}": None for name in ("attn.qkv.weight", "norm1.bias")}, "missing"),
        ({"layers.0.blocks.0.attn.lepe.weight": torch.ones(8)}, "unexpected 'layers.0.blocks.0.attn.lepe.weight'"),
        (
            {"layers.1.blocks.0.mlp.fc1.weight": torch.ones(24, 16)},
            r"'layers.0.blocks.0.mlp.fc1.weight' has shape \[16, 8\]",
        ),
        ({"absolute_pos_embed": torch.ones(1, 35, 8)}, "35 positions are no square"),
        ({"layers.0.blocks.0.attn_mask": torch.zeros(4, 9, 9)}, "no shifted windows"),
        ({"layers.0.blocks.1.attn_mask": torch.zeros(4, 9, 9)}, "is not what SwinFor.* makes by itself"),
        ({"layers.0.blocks.1.attn.relative_position_index": torch.zeros(9, 9).long()}, "is not what SwinFor"),
        ({"layers.0.blocks.1.attn.relative_position_index": torch.zeros(4, 4).long()}, "is not what SwinFor"),
    ],
)
def test_what_swin_model_cannot_hold_is_refused(tmp_path: Path, changes: dict[str, Tensor | None], reason: str) -> None:
    state_dict = _state_dict() | changes
    with pytest.raises(LayoutError, match=reason) as caught:
        converted(tmp_path, {name: tensor for name, tensor in state_dict.items() if tensor is not None})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [EncoderOptions(layer_norm_eps=1e-6), EncoderOptions(hidden_act="mish")])
def test_options_that_swin_model_does_not_have_are_refused(tmp_path: Path, options: EncoderOptions) -> None:
    with pytest.raises(LayoutError, match=r"leave --layer-norm-eps out|--hidden-act mish is not known"):
        converted(tmp_path, _state_dict(), options)


def test_the_epsilon_that_swin_has_may_be_said(tmp_path: Path) -> None:
    assert converted(tmp_path, _state_dict(), EncoderOptions(layer_norm_eps=1e-5)).is_dir()


@pytest.mark.parametrize(
    ("timm", "side", "is_told"),
    [(True, 16, True), (True, 18, True), (True, NATIVE, False), (True, 24, False), (False, 16, False)],
)
def test_images_that_timm_pads_differently_are_told(timm: bool, side: int, is_told: bool) -> None:
    images = plan_of(SWIN, _state_dict(timm=timm)).images
    assert images is not None
    assert bool(images.misfit(side)) == is_told


def test_half_a_window_of_padding_is_padded_alike() -> None:
    images = plan_of(SWIN, _state_dict(timm=True, window=4)).images
    assert images is not None
    assert not images.misfit(24) and images.misfit(20)  # grids of 12 and 6, and of 10 and 5


def test_merging_pads_grids_of_odd_sides_before_they_are_cut() -> None:
    images = plan_of(SWIN, _state_dict(timm=True, depths=(1, 2), heads=(1, 2))).images
    assert images is not None
    assert not images.misfit(22) and images.misfit(26)  # grids of 6 and 7 in the second stage


def test_a_file_that_was_trained_on_such_images_is_refused(tmp_path: Path) -> None:
    content = {"model": Swin(True).state_dict(), "args": {"img_size": 16}}
    with pytest.raises(InputError, match="windows of 3 patches do not divide images of 16 pixels"):
        converted(tmp_path, content)
    assert not (tmp_path / "repo").exists()
    convert(tmp_path / "checkpoint.pth", tmp_path / "repo", inputs=InputOptions(ImageOptions(image_size=24)))
