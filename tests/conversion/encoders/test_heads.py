"""A classifier under a name of no family is told of, and is kept under the name that the line gives."""

import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from hf_encoders.conversion.report import read_report
from tests.helpers.any_encoders import save_encoder
from tests.helpers.encoder_files import ResNet, randomised
from tests.helpers.legacy_files import convert
from tests.helpers.vit_networks import prefixed, vit

CLASSES = 5
HEADS = ["--attention-heads", "3"]


def head(width):
    return {"weight": torch.randn(CLASSES, width), "bias": torch.zeros(CLASSES)}


def of_transformers(folder):
    save_encoder("vit", folder / "vit")
    state = load_file(folder / "vit" / "model.safetensors")
    return {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}


# The encoder's prefix, the head's name, and the name by which a conversion keeps it.
@pytest.mark.parametrize(
    ("kind", "encoder", "name", "kept_as"),
    [
        ("vit", "net.0.", "net.1", "net.0.head"),
        ("vit", "0.", "1", "0.head"),
        ("vit", "backbone.", "linear", "backbone.head"),
        ("vit", "", "head.0", "head"),
        ("resnet", "net.0.", "net.1", "net.0.fc"),
        ("transformers", "backbone.", "linear", "backbone.classifier"),
    ],
)
def test_it_is_told_of_and_kept_under_the_name_of_the_line(kind, encoder, name, kept_as, tmp_path):
    if kind == "vit":
        body, options = vit(classes=0).state_dict(), HEADS
        width = body["cls_token"].shape[-1]
    elif kind == "resnet":
        body, options = randomised(ResNet()).state_dict(), []
        width = body["layer4.0.conv1.weight"].shape[0]
    else:
        body, options = of_transformers(tmp_path), ["--attention-heads", "2"]
        width = body["embeddings.cls_token"].shape[-1]
    state = prefixed(encoder, body) | prefixed(f"{name}.", head(width))
    torch.save(state, tmp_path / "a.pth")
    line = (
        f"note: {name} looks like a classifier of 5 classes on the encoder; to keep it, rename it to {kept_as}"
        f" in the file and convert again; to leave it out, give --ignore '{name}.*'"
    )
    assert line in convert(tmp_path / "a.pth", *options).splitlines()
    assert read_report(tmp_path / "a-hf")["unused_head"] == {"name": name, "classes": 5, "kept_as": kept_as}
    out = convert(tmp_path / "a.pth", "--overwrite", *options, "--ignore", f"{name}.*")
    assert "looks like a classifier" not in out
    renamed = {re.sub(rf"^{re.escape(name)}\.(weight|bias)$", rf"{kept_as}.\1", key): state[key] for key in state}
    torch.save(renamed, tmp_path / "b.pth")
    assert "looks like a classifier" not in convert(tmp_path / "b.pth", *options)
    config = AutoConfig.from_pretrained(tmp_path / "b-hf")
    assert "ForImageClassification" in config.architectures[0] and config.num_labels == CLASSES


@pytest.mark.parametrize(
    "others",
    [
        {"net.1.weight": torch.ones(5, 48), "net.3.weight": torch.ones(5, 5)},  # several layers
        {"net.1.weight": torch.ones(5, 47)},  # it reads something else
        {"projector.weight": torch.ones(5, 48)},  # of self-supervised training
        {"net.1.weight": torch.ones(5, 48, 1, 1)},
        {"net.1.bias": torch.ones(48)},
    ],
)
def test_other_left_overs_are_none(others, tmp_path):
    torch.save(prefixed("net.0.", vit(classes=0).state_dict()) | others, tmp_path / "a.pth")
    assert "looks like a classifier" not in convert(tmp_path / "a.pth", *HEADS)
    torch.save(prefixed("net.0.", vit(classes=5).state_dict()), tmp_path / "b.pth")  # it is left out as it was said
    assert "looks like a classifier" not in convert(tmp_path / "b.pth", *HEADS, "--without-head")
