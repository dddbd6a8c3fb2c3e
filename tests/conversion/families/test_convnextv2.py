"""ConvNeXt V2: files with the paper's names and with timm's become models of transformers that compute the same."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.conversion.families import moves
from hf_encoders.conversion.families.convnextv2 import CONVNEXTV2
from hf_encoders.conversion.families.family import EncoderOptions
from tests.helpers.convnext_network import ConvNext, timm_names
from tests.helpers.foreign_encoders import converted, difference, loaded, plan_of, randomise


def _network(depths: tuple[int, ...] = (1, 2), widths: tuple[int, ...] = (6, 12)) -> ConvNext:
    return randomise(ConvNext(depths, widths, second=True))


def _check(repo: Path, network: ConvNext, head: bool = True) -> None:
    """Compare a repo with the network that it was converted from."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(images)
        outputs = dict(loaded(repo)(pixel_values=images))
        if head:
            outputs |= loaded(repo, "ConvNextV2ForImageClassification")(pixel_values=images)
    outputs["pooler_output"] = outputs["pooler_output"].flatten(1)
    for name in expected if head else ("last_hidden_state", "pooler_output"):
        assert difference(outputs[name], expected[name]) < 1e-5, name


def test_a_file_with_the_names_of_the_paper_becomes_a_model_that_computes_the_same(tmp_path: Path) -> None:
    network = _network((2, 1, 3), (4, 6, 10))
    _check(converted(tmp_path, {"model": network.state_dict(), "epoch": 99}), network)


@pytest.mark.parametrize("conv_mlp", [False, True])
def test_a_file_with_the_names_of_timm_becomes_a_model_that_computes_the_same(tmp_path: Path, conv_mlp: bool) -> None:
    network = _network()
    state_dict = {f"module.{k}": v for k, v in timm_names(network.state_dict(), conv_mlp).items()}
    _check(converted(tmp_path, {"state_dict": state_dict, "arch": "convnextv2_tiny"}), network)


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_an_encoder_of_masked_training_gets_a_norm_that_is_told(tmp_path: Path, prefix: str) -> None:
    network = _network()
    torch.nn.init.ones_(network.norm.weight)
    torch.nn.init.zeros_(network.norm.bias)
    encoder = {k: v for k, v in network.state_dict().items() if not k.startswith(("norm.", "head."))}
    state_dict = {f"{prefix}{name}": tensor for name, tensor in encoder.items()}
    decoder = {
        "mask_token": torch.ones(1, 8, 1, 1),
        "proj.weight": torch.ones(8, 12, 1, 1),
        "proj.bias": torch.ones(8),
        "decoder.0.dwconv.weight": torch.ones(8, 1, 7, 7),
        "decoder.0.grn.gamma": torch.ones(1, 1, 1, 32),
        "pred.weight": torch.ones(48, 8, 1, 1),
    }
    repo = converted(tmp_path, {"model": state_dict | (decoder if prefix else {})})
    _check(repo, network, head=False)
    report = json.loads((repo / "conversion_report.json").read_text())
    assert report["untrained"] == ["layernorm"]
    assert {key for key, name in report["keys"].items() if name is None} == (set(decoder) if prefix else set())


def test_a_classifier_can_be_left_out(tmp_path: Path) -> None:
    network = _network()
    repo = converted(tmp_path, network.state_dict(), EncoderOptions(without_head=True))
    _check(repo, network, head=False)
    assert json.loads((repo / "config.json").read_text())["architectures"] == ["ConvNextV2Model"]


@pytest.mark.parametrize("timm", [False, True])
def test_every_tensor_comes_back_the_same(timm: bool) -> None:
    state_dict = timm_names(_network().state_dict()) if timm else dict(_network().state_dict())
    plan = plan_of(CONVNEXTV2, state_dict)
    ours = {CONVNEXTV2.canonical(name): tensor for name, tensor in state_dict.items()}
    back = moves.undo(plan.moves, moves.apply(plan.moves, ours))
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.items())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stem.2.weight": torch.ones(6)}, "a ConvNeXt V2 with an overlapping stem"),
        ({"stages.1.blocks.1.mlp.grn.bias": None}, "missing 'stages.1.1.grn.beta'"),
        ({"stages.1.blocks.1.conv_dw.weight": None}, "missing 'stages.1.1.dwconv.weight'"),
        ({"stages.0.blocks.0.gamma": torch.ones(6)}, "unexpected 'stages.0.blocks.0.gamma'"),
        ({"stages.0.blocks.0.mlp.grn.weight": torch.ones(18)}, r"grn.weight' has shape \[18\]"),
        ({"head.pre_logits.fc.weight": torch.ones(12, 12)}, "ConvNextV2ForImageClassification cannot hold"),
    ],
)
def test_what_conv_next_v2_model_cannot_hold_is_refused(
    tmp_path: Path, changes: dict[str, Tensor | None], reason: str
) -> None:
    state_dict = timm_names(_network().state_dict()) | changes
    with pytest.raises(LayoutError, match=reason) as caught:
        converted(tmp_path, {name: tensor for name, tensor in state_dict.items() if tensor is not None})
    assert "\n" not in str(caught.value)


def test_sparse_convolutions_are_refused_with_what_to_do(tmp_path: Path) -> None:
    state_dict = dict(_network().state_dict())
    state_dict["stages.0.0.dwconv.kernel"] = state_dict.pop("stages.0.0.dwconv.weight").flatten(1).T.contiguous()
    state_dict["downsample_layers.1.0.ln.weight"] = state_dict.pop("downsample_layers.1.0.weight")
    state_dict["stages.0.0.pwconv1.linear.weight"] = state_dict.pop("stages.0.0.pwconv1.weight")
    with pytest.raises(LayoutError, match="MinkowskiEngine's .*remap_checkpoint_keys"):
        converted(tmp_path, {"model": {f"encoder.{name}": tensor for name, tensor in state_dict.items()}})


def test_another_epsilon_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="leave --layer-norm-eps out"):
        converted(tmp_path, _network().state_dict(), EncoderOptions(layer_norm_eps=1e-5))
