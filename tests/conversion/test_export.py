"""From a repo back to a legacy file: equal tensors, in the legacy order and wrapping."""

from functools import partial

import pytest
import torch

from hf_encoders import (
    DepthSemanticEncoderConfig,
    DepthSemanticEncoderForImageClassification,
    DepthSemanticEncoderModel,
    SemanticEncoder,
)
from hf_encoders.commands.export_legacy import command as main
from tests.conftest import TINY
from tests.helpers.legacy_files import EMBEDDING, cast, convert, encoder_part, refusal, tiny_state, tree, write_legacy

export = partial(convert, main=main)
refuse = partial(refusal, main=main)


def read(path):
    return torch.load(path, weights_only=True)


def assert_equal_tensors(actual, expected):
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype and torch.equal(actual[name], tensor), name


@pytest.fixture
def repo(tmp_path):
    """The repo of a whole training checkpoint."""
    convert(write_legacy(tmp_path / "best.pth"), "--output", tmp_path / "repo", "--include-decoder", "--no-verify")
    return tmp_path / "repo"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_encoder_there_and_back(dtype, tmp_path):
    checkpoint = write_legacy(tmp_path / "best.pth", dtype=dtype)
    convert(checkpoint, "--no-verify")
    export(tmp_path / "best-hf", tmp_path / "encoder.pth")
    content = read(tmp_path / "encoder.pth")
    assert_equal_tensors(content["encoder_state_dict"], encoder_part(cast(tiny_state(), dtype)))
    sizes = {"input_channels": 1, "latent_dim": EMBEDDING, "model_type": "EnhancedResNet50Encoder"}
    assert content["model_config"] == sizes
    assert content["extracted_from"] == str(tmp_path / "best-hf")
    count = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY)).num_parameters()
    weights = len(content["encoder_state_dict"])
    assert content["extraction_info"] == {"total_params": count, "trainable_params": count, "num_weights": weights}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_autoencoder_there_and_back(dtype, tmp_path):
    checkpoint = write_legacy(tmp_path / "best.pth", dtype=dtype)
    convert(checkpoint, "--include-decoder", "--no-verify")
    export(tmp_path / "best-hf", tmp_path / "again.pth", "--autoencoder")
    content, original = read(tmp_path / "again.pth"), read(checkpoint)
    assert_equal_tensors(content.pop("model_state_dict"), original.pop("model_state_dict"))
    # All that the file said of its training, but the states that no repo holds.
    assert content == {k: v for k, v in original.items() if not k.endswith("_state_dict")}
    assert content["config"]["height_range"] == 7.5 and content["epoch"] == 7


def test_the_encoder_of_an_autoencoder_repo(repo, tmp_path):
    export(repo, tmp_path / "encoder.pth")
    assert_equal_tensors(read(tmp_path / "encoder.pth")["encoder_state_dict"], encoder_part(tiny_state()))


def test_an_exported_file_converts_again(repo, tmp_path):
    export(repo, tmp_path / "again.pth", "--autoencoder")
    convert(tmp_path / "again.pth", "--include-decoder")
    first, second = ((folder / "model.safetensors").read_bytes() for folder in (repo, tmp_path / "again-hf"))
    assert first == second


def test_a_trained_model_without_a_report(tiny_autoencoder, tmp_path):
    tiny_autoencoder.save_pretrained(tmp_path / "repo", max_shard_size="10KB")
    assert len(list((tmp_path / "repo").glob("*.safetensors"))) > 1
    export(tmp_path / "repo", tmp_path / "again.pth", "--autoencoder")
    content = read(tmp_path / "again.pth")
    assert_equal_tensors(content["model_state_dict"], tiny_autoencoder.state_dict())
    assert content["config"] == {"image_size": 128, "latent_dim": EMBEDDING, "input_channels": 1}


def test_a_classifier_gives_its_encoder(tiny_config, tmp_path):
    model = DepthSemanticEncoderForImageClassification(tiny_config)
    model.save_pretrained(tmp_path / "repo")
    export(tmp_path / "repo", tmp_path / "encoder.pth")
    assert_equal_tensors(read(tmp_path / "encoder.pth")["encoder_state_dict"], model.encoder.state_dict())
    assert "no decoder" in refuse(tmp_path / "repo", tmp_path / "a.pth", "--autoencoder")


def test_legacy_code_reads_the_export(repo, tmp_path):
    export(repo, tmp_path / "encoder.pth")
    encoder = SemanticEncoder(latent_dim=EMBEDDING, pretrained_path=tmp_path / "encoder.pth", device="cpu")
    assert_equal_tensors(dict(encoder.encoder.state_dict()), encoder_part(tiny_state()))


def test_an_existing_file_stays_unless_overwritten(repo, tmp_path):
    output = tmp_path / "encoder.pth"
    output.write_text("mine")
    assert "exists already" in refuse(repo, output) and output.read_text() == "mine"
    export(repo, output, "--overwrite")
    assert "encoder_state_dict" in read(output)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda repo: (repo / "config.json").write_text('{"model_type": "bert"}'), "a bert model"),
        (lambda repo: (repo / "config.json").unlink(), "config.json"),
        (lambda repo: (repo / "model.safetensors").unlink(), "of its tensors"),
        (lambda repo: (repo / "model.safetensors").write_bytes(b"\x10" + b"\0" * 30), "model.safetensors: damaged"),
        (lambda repo: (repo / "conversion_report.json").write_text("{"), "conversion_report.json: not valid JSON"),
    ],
)
def test_a_spoiled_repo_is_refused(spoil, says, repo, tmp_path):
    spoil(repo)
    before = tree(tmp_path)
    assert says in refuse(repo, tmp_path / "out.pth", "--autoencoder")
    assert tree(tmp_path) == before


def test_bad_places_are_refused(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "cannot be written" in refuse(repo, "/proc/none/out.pth")
    assert "exists already" in refuse(repo, tmp_path)
    assert "no such file or folder" in refuse(tmp_path / "none", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
