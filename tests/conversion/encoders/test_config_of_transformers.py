"""What a model of transformers says of itself beside its weights is read, wherever it keeps it."""

import copy
import json

import pytest
import torch
from transformers import AutoModel, AutoModelForImageClassification, ViTConfig, ViTForImageClassification

from hf_encoders.command_line import run
from hf_encoders.commands import main as cli


@pytest.fixture(scope="module")
def model():
    """Four heads of 16 channels, where 64 are usual, and its own class names."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    model = ViTForImageClassification(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def save(model, kind, folder):
    if kind.startswith("folder"):
        model.save_pretrained(folder / "hf")
        return folder / "hf" if kind == "folder" else folder / "hf" / "model.safetensors"
    path = folder / "model.pt"
    whole = copy.deepcopy(model)
    torch.save({"whole": whole, "in a dictionary": {"model": whole, "epoch": 3}}[kind], path)
    return path


@pytest.mark.parametrize("kind", ["whole", "in a dictionary", "folder", "folder: its file"])
def test_the_result_is_the_original(kind, model, tmp_path, capsys):
    source = save(model, kind, tmp_path)
    cli.command(["convert", str(source), "--output", str(tmp_path / "repo")])
    said = capsys.readouterr()
    assert "attention heads" not in said.out + said.err  # nothing is assumed of them
    pixels = torch.rand(2, 3, 32, 32)
    converted = AutoModelForImageClassification.from_pretrained(tmp_path / "repo")
    with torch.no_grad():
        torch.testing.assert_close(converted(pixels).logits, model(pixels).logits, atol=1e-5, rtol=1e-5)
    assert converted.config.id2label == {0: "cat", 1: "dog"}
    assert AutoModel.from_pretrained(tmp_path / "repo").config.layer_norm_eps == model.config.layer_norm_eps
    assert ("config.json beside the weights is read" in said.out) == kind.startswith("folder")


def test_a_config_that_is_no_json_is_told(model, tmp_path, capsys):
    source = save(model, "folder: its file", tmp_path)
    source.with_name("config.json").write_text("{")
    with pytest.raises(SystemExit) as stopped:
        run(lambda: cli.command(["convert", str(source), "--output", str(tmp_path / "repo")]))
    assert stopped.value.code == 2 and "config.json: no JSON (" in capsys.readouterr().err
    assert not (tmp_path / "repo").exists()


def test_a_config_of_something_else_counts_for_nothing(model, tmp_path, capsys):
    source = save(model, "folder: its file", tmp_path)
    source.with_name("config.json").write_text(json.dumps({"num_attention_heads": 2}))
    cli.command(["convert", str(source), "--output", str(tmp_path / "repo")])
    said = capsys.readouterr()
    assert "1 attention heads of 64 channels assumed" in said.out + said.err
