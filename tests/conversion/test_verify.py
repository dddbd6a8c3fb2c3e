"""A conversion that is wrong does not pass, neither when it is made nor when it is checked again."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_encoders.conversion.compare import compare
from hf_encoders.conversion.depth import DepthConversion
from hf_encoders.conversion.families.legacy import reference_depth
from hf_encoders.conversion.report import weight_digests
from hf_encoders.conversion.verify_depth import verification_maps
from hf_encoders.models import modeling_depth_semantic_encoder as modeling
from tests.conftest import SMALL_CHECKPOINT
from tests.helpers.legacy_files import convert, refusal, tiny_state, tree, write_legacy

BIAS = "encoder.fc.6.bias"


@pytest.fixture
def checkpoint(tmp_path):
    return write_legacy(tmp_path / "best.pth")


@pytest.fixture
def repo(checkpoint):
    convert(checkpoint)
    return checkpoint.with_name("best-hf")


def change_on_the_way(monkeypatch, name, change):
    write = DepthConversion.write
    monkeypatch.setattr(
        DepthConversion, "write", lambda c, r, tensors: write(c, r, {**tensors, name: change(tensors[name])})
    )


def break_a_tensor(monkeypatch):
    change_on_the_way(monkeypatch, "encoder.layer3.0.conv2.weight", lambda tensor: tensor * 1.01)


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


@pytest.mark.numeric
@pytest.mark.parametrize("fault", [break_a_tensor, break_the_epsilon, break_the_gates, break_with_nan])
def test_a_wrong_conversion_fails_and_leaves_nothing(fault, checkpoint, monkeypatch):
    before = tree(checkpoint.parent)
    fault(monkeypatch)
    assert "embeddings differ from the legacy network's by" in refusal(checkpoint)
    assert tree(checkpoint.parent) == before
    convert(checkpoint, "--no-verify")  # it was the verification that refused


def test_a_wrong_conversion_leaves_the_old_repo_as_it_was(repo, checkpoint, monkeypatch):
    before = tree(checkpoint.parent)
    break_a_tensor(monkeypatch)
    assert "embeddings differ" in refusal(checkpoint, "--overwrite")
    assert tree(checkpoint.parent) == before


@pytest.mark.numeric
@pytest.mark.parametrize(("change", "passes"), [(0.8e-4, True), (-0.8e-4, True), (1.2e-4, False), (-1.2e-4, False)])
def test_the_limit_is_one_in_ten_thousand(change, passes, checkpoint, monkeypatch):
    encode = reference_depth.encode
    monkeypatch.setattr(reference_depth, "encode", lambda tensors, maps: encode(tensors, maps) * (1 + change))
    if passes:
        convert(checkpoint)
    else:
        assert "more than 1e-04" in refusal(checkpoint)


def test_a_wrong_decoder_fails(checkpoint, monkeypatch):
    change_on_the_way(monkeypatch, "decoder.final_conv.9.bias", torch.ones_like)
    assert "the reconstruction differ" in refusal(checkpoint, "--include-decoder")


def test_the_maps_are_fixed_and_different():
    maps = verification_maps(3, 40)
    assert torch.equal(maps, verification_maps(3, 40))
    assert maps.shape == (4, 3, 40, 40) and maps.abs().max() <= 1
    assert len({map.std().item() for map in maps}) == 4


def test_a_repo_passes_again(repo, checkpoint):
    assert "verified: embeddings" in convert("--verify", repo)
    assert "verified: embeddings" in convert("--verify", repo, "--against", checkpoint)


@pytest.mark.parametrize(("stored", "dtype"), [("float32", "float16"), ("float32", "bfloat16"), ("float16", "float32")])
def test_a_rounded_repo_passes_against_its_source(stored, dtype, tmp_path):
    checkpoint = write_legacy(tmp_path / "best.pth", dtype=getattr(torch, stored))
    convert(checkpoint, "--output", tmp_path / "half", "--dtype", dtype, "--include-decoder")
    out = convert("--verify", tmp_path / "half", "--against", checkpoint)
    assert "verified: embeddings" in out and "verified: reconstruction" in out


def test_another_wrapping_of_the_same_weights_passes(repo, tmp_path):
    other = write_legacy(tmp_path / "other.pth", "bare encoder")
    assert "verified: embeddings" in convert("--verify", repo, "--against", other)


def change_the_weights(repo):
    tensors = load_file(repo / "model.safetensors")
    save_file({**tensors, "fc.6.bias": tensors["fc.6.bias"] + 1}, repo / "model.safetensors", {"format": "pt"})


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_the_epsilon(repo):
    change_json(repo / "config.json", batch_norm_eps=0.1)


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (change_the_weights, "weights are not those that the conversion wrote"),
        (change_the_epsilon, "embeddings differ from the legacy network's"),
        (lambda repo: (repo / "conversion_report.json").unlink(), "has no conversion_report.json"),
        (lambda repo: (repo / "conversion_report.json").write_text("{"), "not valid JSON"),
        (lambda repo: (repo / "conversion_report.json").write_text("[]"), "not what hf-encoders convert wrote"),
        (lambda repo: (repo / "conversion_report.json").write_text("{}"), "not what hf-encoders convert wrote"),
        (lambda repo: (repo / "model.safetensors").unlink(), "weights are not those"),
        (lambda repo: (repo / "other.safetensors").write_bytes(b"x"), "weights are not those"),
        (lambda repo: change_json(repo / "conversion_report.json", weights_sha256={}), "weights are not those"),
        (
            lambda repo: change_json(repo / "config.json", model_type="bert"),
            "a bert model, expected depth_semantic_encoder",
        ),
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
    assert compare(torch.zeros(2), torch.ones(2))["relative_difference"] == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: write_legacy(path, dtype=torch.float16), "is not what"),
        (lambda path: write_legacy(path, state=tiny_state(hidden_size=20)), "is not its source"),
        (lambda path: torch.save(tiny_state() | {BIAS: torch.full((12,), torch.nan)}, path), "NaN or infinity"),
        (lambda path: torch.save(tiny_state() | {BIAS: torch.ones(12).to_sparse()}, path), "sparse"),
        (lambda path: path.write_text("x"), "a text file"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_is_not_the_source_is_told_apart(make, says, repo, tmp_path):
    make(tmp_path / "other.pth")
    assert says in refusal("--verify", repo, "--against", tmp_path / "other.pth")


def test_an_encoder_file_is_not_the_source_of_an_autoencoder(checkpoint, tmp_path):
    convert(checkpoint, "--include-decoder", "--no-verify")
    other = write_legacy(tmp_path / "other.pth", "extracted")
    assert "has no 'decoder.decoder_blocks" in refusal("--verify", tmp_path / "best-hf", "--against", other)


def test_weights_changed_together_with_their_digest_are_found_by_the_source(repo, checkpoint):
    change_the_weights(repo)
    change_json(repo / "conversion_report.json", weights_sha256=weight_digests(repo))
    convert("--verify", repo)  # consistent in itself
    assert f"'{BIAS}' is not what" in refusal("--verify", repo, "--against", checkpoint)


def test_a_repo_that_lacks_tensors_is_refused(repo):
    tensors = load_file(repo / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if "layer4" not in n}, repo / "model.safetensors")
    change_json(repo / "conversion_report.json", weights_sha256=weight_digests(repo))
    assert "lacks 24 of its tensors, 'encoder.layer4.0.conv1.weight' among them" in refusal("--verify", repo)


def test_no_repo_at_all_is_refused(tmp_path):
    assert "none/a: no such file or folder" in refusal("--verify", tmp_path / "none" / "a")
    assert "none/a: no such file or folder here, and " in refusal("--verify", "none/a")  # the Hub lacks it, or is away
    assert "has no conversion_report.json" in refusal("--verify", tmp_path)
    assert "has no conversion_report.json" in refusal("--verify", "")  # the working directory, not a conversion
