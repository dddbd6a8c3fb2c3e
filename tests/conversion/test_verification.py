"""A conversion that is wrong does not pass, neither when it is made nor when it is checked again."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import convert_ckpt
import verification
from conftest import SMALL_CHECKPOINT
from hf_encoders.models import modeling_depth_semantic_encoder as modeling
from legacy_files import convert, refusal, tiny_state, tree, write_legacy


@pytest.fixture
def checkpoint(tmp_path):
    return write_legacy(tmp_path / "best.pth")


@pytest.fixture
def repo(checkpoint):
    convert(checkpoint)
    return checkpoint.with_name("best-hf")


def break_a_tensor(monkeypatch):
    write = convert_ckpt._write_model

    def wrong(repo, source, tensors, include_decoder):
        changed = {**tensors, "encoder.layer3.0.conv2.weight": tensors["encoder.layer3.0.conv2.weight"] * 1.01}
        write(repo, source, changed, include_decoder)

    monkeypatch.setattr(convert_ckpt, "_write_model", wrong)


def break_the_epsilon(monkeypatch):
    monkeypatch.setattr(modeling, "conv_norm_relu", lambda conv, config: [conv, *_norm_relu(conv)])


def _norm_relu(conv):
    return [torch.nn.BatchNorm2d(conv.out_channels, eps=1e-3), torch.nn.ReLU()]


def break_the_gates(monkeypatch):
    monkeypatch.setattr(modeling.DepthSemanticEncoderGate, "forward", lambda self, hidden_states: hidden_states)


def break_with_nan(monkeypatch):
    monkeypatch.setattr(
        modeling.DepthSemanticEncoderGate, "forward", lambda self, hidden_states: hidden_states * torch.nan
    )


@pytest.mark.parametrize("fault", [break_a_tensor, break_the_epsilon, break_the_gates, break_with_nan])
def test_a_wrong_conversion_fails_and_leaves_nothing(fault, checkpoint, monkeypatch):
    before = tree(checkpoint.parent)
    fault(monkeypatch)
    assert "embeddings differ from the legacy network's by" in refusal(checkpoint)
    assert tree(checkpoint.parent) == before


def test_a_wrong_decoder_fails(checkpoint, monkeypatch):
    write = convert_ckpt._write_model

    def wrong(repo, source, tensors, include_decoder):
        write(repo, source, {**tensors, "decoder.final_conv.9.bias": torch.ones(1)}, include_decoder)

    monkeypatch.setattr(convert_ckpt, "_write_model", wrong)
    assert "the reconstruction differ" in refusal(checkpoint, "--include-decoder")


def test_the_maps_are_fixed_and_different():
    maps = verification.verification_maps(3, 40)
    assert torch.equal(maps, verification.verification_maps(3, 40))
    assert maps.shape == (4, 3, 40, 40) and maps.abs().max() <= 1
    assert len({map.std().item() for map in maps}) == 4


def test_a_repo_passes_again(repo, checkpoint):
    assert "verified: embeddings" in convert("--verify", repo)
    assert "verified: embeddings" in convert("--verify", repo, "--against", checkpoint)


def test_a_rounded_repo_passes_against_its_source(checkpoint, tmp_path):
    convert(checkpoint, "--output", tmp_path / "half", "--dtype", "float16")
    assert "verified: embeddings" in convert("--verify", tmp_path / "half", "--against", checkpoint)


def test_another_wrapping_of_the_same_weights_passes(repo, tmp_path):
    other = write_legacy(tmp_path / "other.pth", "bare encoder")
    assert "verified: embeddings" in convert("--verify", repo, "--against", other)


def change_the_weights(repo):
    tensors = load_file(repo / "model.safetensors")
    save_file({**tensors, "fc.6.bias": tensors["fc.6.bias"] + 1}, repo / "model.safetensors", {"format": "pt"})


def change_the_epsilon(repo):
    config = json.loads((repo / "config.json").read_text())
    (repo / "config.json").write_text(json.dumps(config | {"batch_norm_eps": 0.1}))


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (change_the_weights, "weights are not those that the conversion wrote"),
        (change_the_epsilon, "embeddings differ from the legacy network's"),
        (lambda repo: (repo / "conversion_report.json").unlink(), "has no conversion_report.json"),
        (lambda repo: (repo / "conversion_report.json").write_text("{"), "not valid JSON"),
        (lambda repo: (repo / "conversion_report.json").write_text("[]"), "not what convert_ckpt.py wrote"),
        (lambda repo: (repo / "model.safetensors").unlink(), "weights are not those"),
    ],
)
def test_a_tampered_repo_fails(tamper, says, repo, checkpoint):
    tamper(repo)
    assert says in refusal("--verify", repo)
    assert says in refusal("--verify", repo, "--against", checkpoint)


def test_another_checkpoint_fails(repo, tmp_path):
    state = tiny_state()
    other = write_legacy(
        tmp_path / "other.pth", state={**state, "encoder.fc.6.bias": state["encoder.fc.6.bias"] + 1e-3}
    )
    assert "'encoder.fc.6.bias' is not what" in refusal("--verify", repo, "--against", other)
    assert "is not" in refusal("--verify", repo, "--against", SMALL_CHECKPOINT)


def test_a_zero_output_is_compared_absolutely():
    assert verification.compare(torch.zeros(2), torch.ones(2))["relative_difference"] == 1
