"""Conversions that succeed: every wrapping and way of saving, the options, and what is written."""

import hashlib
import importlib.metadata
import json
import os
import weakref

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from hf_encoders.checkpoints.files import open_checkpoint
from hf_encoders.conversion import convert as convert_module
from hf_encoders.conversion import depth
from hf_encoders.conversion.families.legacy import depth_layouts
from hf_encoders.conversion.verify_depth import TOLERANCE, verify_depth
from tests.conftest import SMALL_CHECKPOINT, TINY
from tests.helpers.legacy_files import (
    SAVINGS,
    SIZE,
    WRAPPINGS,
    cast,
    convert,
    encoder_part,
    one_thread,
    tiny_state,
    write_legacy,
)

FILES = {
    "README.md", "config.json", "conversion_report.json", "model.safetensors", "preprocessor_config.json",
    "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json",
}  # fmt: skip
# A bare state dict has no metadata that could hold NumPy numbers.
CASES = [(w, s) for w in WRAPPINGS for s in SAVINGS if not (s == "numpy" and w.startswith(("bare", "wrapper")))]
KINDS = {"training": "training checkpoint", "extracted": "extracted encoder", "extracted by class": "extracted encoder"}


def read_report(repo):
    return json.loads((repo / "conversion_report.json").read_text())


def source_model(cls, state, dtype=None, **changes):
    """The network as the legacy code had it: its weights, none of its files."""
    with torch.device("meta"):
        model = cls(DepthSemanticEncoderConfig(**TINY | changes))
    model.load_state_dict(state, assign=True)
    return model.eval().to(dtype or torch.float32)


def difference(actual, expected):
    """The largest difference, relative to the largest magnitude."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def assert_same_network(actual, expected, side=SIZE, channels=1):
    weights, wanted = actual.state_dict(), expected.state_dict()
    assert weights.keys() == wanted.keys() and all(torch.equal(weights[name], wanted[name]) for name in wanted)
    maps = torch.rand(2, channels, side, side, dtype=expected.dtype) * 2 - 1
    with one_thread(), torch.inference_mode():
        actual, expected = actual(maps), expected(maps)
    torch.testing.assert_close(actual.pooler_output, expected.pooler_output)
    assert actual.pooler_output.std() > 0
    if "reconstruction" in expected:
        torch.testing.assert_close(actual.reconstruction, expected.reconstruction)


@pytest.mark.parametrize(("wrapping", "saving"), CASES)
def test_every_wrapping_in_every_way_of_saving(wrapping, saving, tmp_path):
    dtype = SAVINGS[saving].get("dtype", torch.float32)
    checkpoint = write_legacy(tmp_path / "best_model.pth", wrapping, **SAVINGS[saving])
    # Comparing is this test's own work; one of each wrapping verifies itself as well.
    convert(checkpoint, *([] if saving == "plain" else ["--no-verify"]))

    model = AutoModel.from_pretrained(tmp_path / "best_model-hf")
    assert type(model) is DepthSemanticEncoderModel and model.dtype == dtype
    state = cast(tiny_state(), dtype)
    assert_same_network(model, source_model(DepthSemanticEncoderModel, encoder_part(state), dtype))
    source = read_report(tmp_path / "best_model-hf")["source"]
    assert source["wrapping"] == KINDS.get(wrapping, "bare state dict")
    whole = wrapping in ("training", "bare autoencoder")
    assert source["layout"] == ("depth-autoencoder" if whole else "depth-encoder")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("wrapping", ["training", "bare autoencoder"])
def test_the_decoder_is_included_on_request(wrapping, dtype, tmp_path):
    checkpoint = write_legacy(tmp_path / "a.pth", wrapping, dtype=getattr(torch, dtype), rename="module.{}".format)
    convert(checkpoint, "--include-decoder", "--no-verify")
    model = DepthAutoencoderModel.from_pretrained(tmp_path / "a-hf")
    assert_same_network(model, source_model(DepthAutoencoderModel, cast(tiny_state(), model.dtype), model.dtype))
    assert model.config.architectures == ["DepthAutoencoderModel"] and model.dtype == getattr(torch, dtype)
    report = read_report(tmp_path / "a-hf")
    assert report["decoder"] and report["architecture"] == "DepthAutoencoderModel"
    assert report["parameters"] == {"total": model.num_parameters(), "encoder": model.encoder.num_parameters()}
    assert report["keys"] == {f"module.{name}": name for name in tiny_state()}


@pytest.mark.numeric
def test_sample_checkpoint_gives_the_legacy_numbers(tmp_path, small_expected):
    out = convert(SMALL_CHECKPOINT, "--output", tmp_path / "small", "--include-decoder")
    assert "training checkpoint, depth-autoencoder" in out and "verified: reconstruction differ by" in out
    maps = small_expected["pixel_values"]
    with one_thread(), torch.inference_mode():
        embeddings = AutoModel.from_pretrained(tmp_path / "small")(maps).pooler_output
        reconstruction = DepthAutoencoderModel.from_pretrained(tmp_path / "small")(maps).reconstruction
    assert difference(embeddings, small_expected["embeddings"][:4]) <= TOLERANCE
    assert difference(reconstruction, small_expected["reconstruction"]) <= TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"num_channels": 3, "hidden_size": 20},
        {"stem_sizes": [3, 5], "hidden_sizes": [8, 16, 16, 32], "depths": [2, 1, 3, 2], "bottleneck_expansion": 2},
        {"enhance_size": 6, "fusion_size": 3, "fc_sizes": [10, 9], "pool_grid": 3},
        {"gate_reduction": 4, "se_reduction": 2, "decoder_se_reduction": 8, "decoder_fusion_size": 16},
        {"decoder_hidden_sizes": [16, 8, 4], "decoder_gated_blocks": 1, "decoder_head_sizes": [5, 4, 3]},
        {"decoder_global_size": 6, "decoder_spatial_size": 5},
    ],
)
def test_sizes_are_inferred_from_the_shapes(changes, tmp_path):
    state = tiny_state(**changes)
    convert(write_legacy(tmp_path / "a.pth", "bare autoencoder", state), "--include-decoder", "--no-verify")
    model = DepthAutoencoderModel.from_pretrained(tmp_path / "a-hf")
    assert {name: getattr(model.config, name) for name in changes} == changes
    channels = changes.get("num_channels", 1)
    assert_same_network(model, source_model(DepthAutoencoderModel, state, **changes), side=128, channels=channels)
    assert AutoImageProcessor.from_pretrained(tmp_path / "a-hf").num_channels == channels


@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtype_is_what_was_asked_for(dtype, stored, tmp_path):
    checkpoint = write_legacy(tmp_path / "a.pth", dtype=stored)
    out = convert(checkpoint, "--dtype", dtype)
    weights = load_file(tmp_path / "a-hf" / "model.safetensors")
    expected = cast(cast(encoder_part(tiny_state()), stored), getattr(torch, dtype))
    assert {name: tensor.dtype for name, tensor in weights.items()} == {n: t.dtype for n, t in expected.items()}
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert AutoModel.from_pretrained(tmp_path / "a-hf").dtype == getattr(torch, dtype)
    report = read_report(tmp_path / "a-hf")
    assert report["dtype"] == dtype
    rounding = report["verification"].get("rounding")
    assert (rounding is None) == (str(stored) == f"torch.{dtype}") == ("rounding to" not in out)
    if rounding:
        assert rounding["to"] == dtype and 0.99 < rounding["embeddings"]["least_cosine"] <= 1.00001
        assert (rounding["embeddings"]["largest_difference"] > 0) == (dtype != "float32")


def test_report_says_what_was_converted(tmp_path):
    state = tiny_state()
    checkpoint = write_legacy(tmp_path / "best.model.pth", rename="_orig_mod.{}".format)
    size, digest = checkpoint.stat().st_size, hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    convert(checkpoint)
    repo = tmp_path / "best.model-hf"
    report = read_report(repo)
    metadata = report["source"].pop("metadata")
    assert report.pop("source") == {
        "name": "best.model.pth", "size": size, "sha256": digest, "layout": "depth-autoencoder",
        "wrapping": "training checkpoint", "container": "PyTorch zip", "classes": [],
        "weights": {
            "path": "model_state_dict._orig_mod", "prefix": "_orig_mod.", "ignored": [], "others": [], "notes": [],
        },
    }  # fmt: skip
    assert metadata == {
        "epoch": 7, "loss": 0.25, "best_loss": 0.125,
        "training_history": {"train_loss": [0.5, 0.25], "val_loss": [0.5, 0.125]},
        "config": {"image_size": SIZE, "latent_dim": 12, "input_channels": 1, "height_range": 7.5},
    }  # fmt: skip
    keys = report.pop("keys")
    assert keys == {
        f"_orig_mod.{name}": name.removeprefix("encoder.") if name.startswith("encoder.") else None for name in state
    }
    verification = report.pop("verification")
    assert verification["inputs"]["shape"] == [4, 1, SIZE, SIZE] and verification["tolerance"] == 1e-4
    assert (
        0 <= verification["embeddings"]["relative_difference"] < 1e-4 < verification["embeddings"]["largest_magnitude"]
    )
    versions = report.pop("versions")
    assert all(versions[name] == importlib.metadata.version(name) for name in ("torch", "transformers", "safetensors"))
    weights = hashlib.sha256((repo / "model.safetensors").read_bytes()).hexdigest()
    parameters = [t for name, t in encoder_part(state).items() if ".running_" not in name and t.is_floating_point()]
    count = sum(tensor.numel() for tensor in parameters)
    assert report == {
        "architecture": "DepthSemanticEncoderModel", "decoder": False, "dtype": "float32", "dropped": [],
        "training_state": None,
        "parameters": {"total": count, "encoder": count},
        "weights_sha256": {"model.safetensors": weights},
    }  # fmt: skip


def test_counters_that_were_cast_to_half_precision_are_integers_again(tmp_path):
    state = {name: tensor.half() for name, tensor in tiny_state().items()}
    lost = "encoder.stem.1.num_batches_tracked"
    state[lost] = torch.tensor(torch.inf, dtype=torch.float16)  # as 70,000 becomes
    convert(write_legacy(tmp_path / "a.pth", state=state))
    written = load_file(tmp_path / "a-hf" / "model.safetensors")
    counters = {name: tensor for name, tensor in written.items() if name.endswith("num_batches_tracked")}
    assert {tensor.dtype for tensor in counters.values()} == {torch.int64}
    assert counters.pop(lost.removeprefix("encoder.")) == 0 and {int(tensor) for tensor in counters.values()} == {1000}


def test_metadata_of_any_kind_is_reported(tmp_path):
    odd = {
        "epoch": torch.tensor(3), "loss": float("nan"), 5: (1, 2), "note": "caf\udce9",
        "training_history": [torch.arange(2), {"device": torch.device("cpu")}], "config": "none",
        "ema": {"weight": torch.zeros(40, 50)},
    }  # fmt: skip
    torch.save({**odd, "model_state_dict": tiny_state()}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", "--no-verify")
    assert read_report(tmp_path / "a-hf")["source"]["metadata"] == {
        "epoch": 3, "loss": "nan", "5": [1, 2], "note": "caf\\udce9",
        "training_history": [[0, 1], {"device": "cpu"}], "config": "none",
    }  # fmt: skip
    others = [{"path": "ema", "family": "", "tensors": 1}]
    assert read_report(tmp_path / "a-hf")["source"]["weights"]["others"] == others


def test_card_says_where_the_weights_come_from(tmp_path):
    convert(write_legacy(tmp_path / "best.pth"), "--output", tmp_path / "my-encoder", "--dtype", "float16")
    report = read_report(tmp_path / "my-encoder")
    card = ModelCard.load(tmp_path / "my-encoder" / "README.md")
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "image-feature-extraction"
    relative = f"{report['verification']['embeddings']['relative_difference']:.1e}"
    for said in (
        *("# my-encoder", 'from_pretrained("my-encoder")', "`best.pth`", report["source"]["sha256"], "| epoch | 7 |"),
        *("| loss | 0.25 |", "±7.5", "5,728 parameters, float16", relative, "stored in float16"),
    ):
        assert said in card.text, said
    assert "not verified" not in card.text


def test_a_conversion_that_was_not_verified_says_so(tmp_path):
    assert "not verified" in convert(write_legacy(tmp_path / "a.pth", "bare encoder"), "--no-verify")
    assert read_report(tmp_path / "a-hf")["verification"] is None
    card = (tmp_path / "a-hf" / "README.md").read_text()
    assert "not verified" in card and "| epoch | not stated |" in card


@pytest.mark.parametrize(
    ("wrapping", "options"),
    [
        ("training", ["--layout", "depth-autoencoder", "--input-channels", 1, "--latent-dim", 12]),
        ("extracted", ["--layout", "depth-encoder", "--input-channels", 1, "--latent-dim", 12]),
        ("training", ["--layout", "auto"]),
    ],
)
def test_options_that_agree_with_the_file_change_nothing(wrapping, options, tmp_path):
    checkpoint = write_legacy(tmp_path / "a.pth", wrapping)
    for name, given in (("with", options), ("without", [])):
        convert(checkpoint, "--output", tmp_path / "new" / name, "--no-verify", *given)
    for name in FILES - {"README.md"}:  # the card has the folder's name
        assert (tmp_path / "new" / "with" / name).read_bytes() == (tmp_path / "new" / "without" / name).read_bytes()


def test_the_repo_is_whole_and_readable_and_nothing_else_is_left(tmp_path):
    old = os.umask(0o027)
    try:
        convert(write_legacy(tmp_path / "a.pth"))
    finally:
        os.umask(old)
    repo = tmp_path / "a-hf"
    assert {path.name for path in repo.iterdir()} == FILES
    assert {path.name for path in tmp_path.iterdir()} == {"a.pth", "a-hf"}
    assert {path.stat().st_mode & 0o777 for path in repo.iterdir()} == {0o640} and repo.stat().st_mode & 0o777 == 0o750
    processor = AutoImageProcessor.from_pretrained(repo)
    assert processor.size == {"height": SIZE, "width": SIZE}
    assert AutoModel.from_pretrained(repo).encode([torch.rand(9, 9)]).shape == (1, 12)


def test_overwrite_leaves_nothing_of_the_old_repo(tmp_path):
    convert(write_legacy(tmp_path / "a.pth"), "--include-decoder", "--no-verify")
    (tmp_path / "a-hf" / "old.safetensors").touch()
    convert(write_legacy(tmp_path / "a.pth", state=tiny_state(hidden_size=20)), "--overwrite", "--no-verify")
    assert {path.name for path in (tmp_path / "a-hf").iterdir()} == FILES
    assert AutoModel.from_pretrained(tmp_path / "a-hf").config.hidden_size == 20
    assert {path.name for path in tmp_path.iterdir()} == {"a.pth", "a-hf"}


def test_a_file_is_read_once_and_its_tensors_are_gone_before_the_model_is_loaded(tmp_path, monkeypatch):
    read, kept = [], []

    def reading(path):
        read.append(path)
        content = open_checkpoint(path)
        kept.extend(weakref.ref(handle) for handle in content.content["model_state_dict"].values())
        return content

    def verifying(repo, expected):
        assert kept and not any(reference() is not None for reference in kept)
        return verify_depth(repo, expected)

    for module in (convert_module, depth_layouts):
        monkeypatch.setattr(module, "open_checkpoint", reading)
    monkeypatch.setattr(depth, "verify_depth", verifying)
    checkpoint = write_legacy(tmp_path / "a.pth")
    convert_module.convert(checkpoint)
    assert read == [checkpoint]
