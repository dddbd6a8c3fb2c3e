"""ResNets as people have them become transformers' ResNetModel, and their relatives are refused by name."""

import argparse
import json
import re

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageClassification

from hf_encoders.checkpoints.errors import CheckpointError
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.families.family import EncoderOptions
from tests.helpers.encoder_files import Block, ResNet, difference, loaded, randomised

X = torch.randn(2, 3, 65, 70, generator=torch.Generator().manual_seed(1))


def saved(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    return tmp_path / "a.pth"


@pytest.mark.numeric
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"depths": (1, 1, 2, 3), "bottleneck": True},
        {"depths": (2, 1, 1), "channels": 1},
        {"depths": (1, 1, 1, 1), "channels": 5, "bottleneck": True, "width": 12},
    ],
)
def test_depths_blocks_and_channels(sizes, tmp_path):
    network = randomised(ResNet(**sizes))
    model = loaded(saved(tmp_path, {"state_dict": network.state_dict()}), tmp_path / "repo")
    x = X[:, :1].expand(-1, sizes.get("channels", 3), -1, -1)
    with torch.inference_mode():
        expected, outputs = network(x), model(x)
    assert difference(outputs.last_hidden_state, expected) < 1e-5
    assert difference(outputs.pooler_output.flatten(1), expected.mean((2, 3))) < 1e-5


@pytest.mark.numeric
def test_the_stride_of_a_bottleneck_is_assumed_or_said(tmp_path, capsys):
    early, late = (randomised(ResNet(bottleneck=True, first=first)) for first in (True, False))
    path = saved(tmp_path, early.state_dict())
    for options, network in (
        (EncoderOptions(stride_in="1x1"), early),
        (EncoderOptions(stride_in="3x3"), late),
        (EncoderOptions(), late),
    ):
        model = loaded(path, tmp_path / "repo", encoder=options, overwrite=True)
        with torch.inference_mode():
            assert difference(model(X).last_hidden_state, network(X)) < 1e-5
        assert ("stride on the 3x3" in (tmp_path / "repo" / "README.md").read_text()) == (options == EncoderOptions())


@pytest.mark.numeric
def test_a_classifier_is_kept_or_left_out(tmp_path):
    network = randomised(ResNet(classes=4))
    path = saved(tmp_path, {"model": network.state_dict(), "classes": ["a", "b", "c", "d"]})
    convert(path, tmp_path / "repo")
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "repo", dtype=torch.float32)
    with torch.inference_mode():
        expected = network.fc(network(X).mean((2, 3)))
        assert difference(model(X).logits, expected) < 1e-5
    assert model.config.id2label == {0: "a", 1: "b", 2: "c", 3: "d"}
    model = loaded(path, tmp_path / "bare", encoder=EncoderOptions(without_head=True))
    assert model.config.architectures == ["ResNetModel"]


def wrapped(kind):
    network = randomised(ResNet())
    state = network.state_dict()
    other = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    head = {"0.weight": torch.ones(8, 64), "0.bias": torch.ones(8), "2.weight": torch.ones(4, 8)}

    def below(prefix, tensors):
        return {prefix + name: tensor for name, tensor in tensors.items()}

    contents = {
        "MoCo v2": {"state_dict": below("module.encoder_q.", state) | below("module.encoder_q.fc.", head)
                    | below("module.encoder_k.", other) | {"module.queue": torch.ones(4, 9)}},
        "MoCo v1": {"state_dict": below("module.encoder_k.", other) | below("module.encoder_q.", state)
                    | {"module.encoder_q.fc.weight": torch.ones(128, 64), "module.encoder_q.fc.bias": torch.ones(128)}},
        "SwAV": below("module.", state) | below("module.projection_head.", head)
                | {"module.prototypes.weight": torch.ones(5, 4)},
        "BYOL": {"model": below("target_network.encoder.", other) | below("online_network.encoder.", state)
                 | below("predictor.", head)},
        "Sequential": {"state_dict": below("backbone.", nn.Sequential(*network.children()).state_dict())
                       | below("projection_head.", head)},
        "mmpretrain": {"meta": {"mmengine_version": "0.10"}, "state_dict": below("backbone.", state)
                       | below("neck.", head)},
        "old PyTorch": {name: tensor for name, tensor in state.items() if "num_batches" not in name},
    }  # fmt: skip
    return network, contents[kind]


@pytest.mark.numeric
@pytest.mark.parametrize("kind", ["MoCo v2", "MoCo v1", "SwAV", "BYOL", "Sequential", "mmpretrain", "old PyTorch"])
def test_wrappings(kind, tmp_path):
    network, content = wrapped(kind)
    model = loaded(saved(tmp_path, content), tmp_path / "repo")
    assert model.config.architectures == ["ResNetModel"]
    with torch.inference_mode():
        assert difference(model(X).last_hidden_state, network(X)) < 1e-5


def with_stem(kernel):
    network = ResNet()
    network.conv1 = nn.Conv2d(3, 8, kernel, 2, 1, bias=False)
    return network.state_dict()


def wide():
    network = ResNet(bottleneck=True)
    block = Block(8, 32, 1, True)
    block.conv1, block.bn1 = nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16)
    block.conv2, block.bn2 = nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16)
    block.conv3 = nn.Conv2d(16, 32, 1, bias=False)
    network.layer1[0] = block
    return network.state_dict()


def grouped():
    network = ResNet(bottleneck=True)
    network.layer1[0].conv2 = nn.Conv2d(8, 8, 3, groups=2, bias=False)
    return network.state_dict()


def renamed(old, new, **sizes):
    return {re.sub(old, new, name): tensor for name, tensor in ResNet(**sizes).state_dict().items()}


def added(name):
    return ResNet().state_dict() | {name: torch.ones(4, 4)}


@pytest.mark.parametrize(
    ("state", "named"),
    [
        (lambda: with_stem(3), "small stem of CIFAR (3x3)"),
        (lambda: with_stem(5), "another stem (5x5)"),
        (wide, "a wide ResNet"),
        (grouped, "a ResNeXt"),
        (lambda: renamed(r"^conv1\.", "conv1.0."), "a ResNet-D"),
        (lambda: renamed(r"downsample\.1\.", "downsample.2."), "a ResNet-D"),
        (lambda: added("layer1.0.se.fc1.weight"), "an SE-ResNet"),
        (lambda: added("layer1.0.convs.0.weight"), "a Res2Net"),
        (lambda: added("layer1.0.conv2.fc1.weight"), "attention in its convolutions"),
        (lambda: {n: t for n, t in ResNet().state_dict().items() if "running" not in n}, "GroupNorm"),
        (lambda: {n: t for n, t in ResNet().state_dict().items() if "layer" not in n}, "lacks the blocks of a ResNet"),
    ],
)
def test_relatives_are_refused_by_name(state, named, tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(named)):
        convert(saved(tmp_path, state()), tmp_path / "repo")
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (lambda: {n: t for n, t in ResNet().state_dict().items() if "layer2.1" not in n}, None),
        (lambda: {n: t for n, t in ResNet().state_dict().items() if "layer2.0" not in n}, "lacks 'layer2.0.conv2"),
        (lambda: {n: t for n, t in ResNet().state_dict().items() if "layer3." not in n}, "layer4.0"),
        (lambda: {n: t for n, t in ResNet().state_dict().items() if n != "layer4.0.bn2.bias"}, "layer4.0.bn2.bias"),
        (lambda: added("something.else.weight"), "unexpected 'something.else.weight'"),
        (lambda: ResNet().state_dict() | {"bn1.weight": torch.ones(9)}, "'bn1.weight' has shape [9]"),
        (lambda: {n: t for n, t in ResNet(classes=3).state_dict().items() if n.startswith("fc")}, "no whole network"),
    ],
)  # fmt: skip
def test_what_is_missing_or_left_over_is_named(state, said, tmp_path):
    path = saved(tmp_path, state())
    if said is None:  # the last block of a stage: nothing tells that there was one
        loaded(path, tmp_path / "repo")
        return
    with pytest.raises(CheckpointError, match=re.escape(said)):
        convert(path, tmp_path / "repo")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"arch": "resnetaa50"}, "blurs before it takes every second pixel (resnetaa50)"),
        ({"model": "resnetblur18"}, "blurs"),
        ({"replace_stride_with_dilation": [False, True, True]}, "a dilated ResNet"),
        ({"dilations": (1, 1, 2, 4)}, "a dilated ResNet"),
        ({"dilation": True}, "a dilated ResNet"),
    ],
)
def test_relatives_with_the_same_tensors_are_refused_by_the_arguments(arguments, named, tmp_path):
    path = saved(tmp_path, {"model": ResNet().state_dict(), "args": argparse.Namespace(**arguments)})
    with pytest.raises(CheckpointError, match=re.escape(named)):
        convert(path, tmp_path / "repo")


@pytest.mark.parametrize("arguments", [{"dilations": (1, 1, 1, 1)}, {"replace_stride_with_dilation": [False] * 3}])
def test_arguments_of_a_plain_resnet_convert(arguments, tmp_path):
    loaded(saved(tmp_path, {"model": ResNet().state_dict(), "args": arguments}), tmp_path / "repo")


@pytest.mark.parametrize(
    ("head", "is_assumed"),
    [("classifier.0.convs.0.0.weight", True), ("decode_head.conv_seg.weight", True), ("head.fc.weight", False)],
)
def test_no_dilation_is_assumed_beside_a_head_for_segmentation(head, is_assumed, tmp_path):
    state = {f"backbone.{name}": tensor for name, tensor in ResNet().state_dict().items()}
    loaded(saved(tmp_path, state | {head: torch.ones(4, 64)}), tmp_path / "repo")
    report = json.loads((tmp_path / "repo" / "conversion_report.json").read_text())
    assert ("dilation" in {each["quantity"] for each in report["assumed"]}) == is_assumed


def test_basic_blocks_have_no_choice_of_stride(tmp_path):
    with pytest.raises(CheckpointError, match="leave --stride-in out"):
        convert(saved(tmp_path, ResNet().state_dict()), tmp_path / "repo", encoder=EncoderOptions(stride_in="1x1"))


@pytest.mark.numeric
def test_a_classifier_without_bias_has_one_of_zeros(tmp_path):
    network = randomised(ResNet(classes=4))
    torch.nn.init.zeros_(network.fc.bias)
    state = {name: tensor for name, tensor in network.state_dict().items() if name != "fc.bias"}
    convert(saved(tmp_path, state), tmp_path / "repo")
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "repo", dtype=torch.float32)
    with torch.inference_mode():
        assert difference(model(X).logits, network.fc(network(X).mean((2, 3)))) < 1e-5
