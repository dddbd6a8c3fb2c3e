"""Of several sets of weights, what was taken is told, kept in the report, and compared again later."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_encoders.conversion.families.legacy.depth_layouts import read_depth_checkpoint
from hf_encoders.conversion.training_state import read_training_state
from hf_encoders.conversion.verify_repo import verify_repo
from hf_encoders.legacy.semantic_encoder import SemanticEncoder
from tests.helpers.legacy_files import convert, encoder_part, refusal, tiny_state
from tests.helpers.multimodal_files import adamw_state, multimodal_state

S, M = tiny_state(), multimodal_state()
E = {name: tensor + 0.5 if tensor.is_floating_point() else tensor for name, tensor in S.items()}


@pytest.fixture
def both(tmp_path):
    """Weights, and their average."""
    torch.save({"model": S, "model_ema": E, "epoch": 3}, tmp_path / "both.pth")
    return tmp_path / "both.pth"


def source(repo):
    return json.loads((repo / "conversion_report.json").read_text(encoding="utf-8"))["source"]


def test_the_first_line_warns_and_the_report_keeps_it(both):
    out = convert(both)
    line = out.splitlines()[0]
    assert line == (
        "warning: took the weights at model; in the file are also model_ema (depth-autoencoder, 457 tensors);"
        " --weights PATH takes another"
    )
    report = source(both.parent / "both-hf")
    assert report["weights"]["path"] == "model" and report["metadata"] == {"epoch": 3}
    assert report["weights"]["others"] == [{"path": "model_ema", "family": "depth-autoencoder", "tensors": 457}]
    document = json.loads(convert(both, "--overwrite", "--no-verify", "--format", "json"))
    assert line in document["notes"] and document["report"]["source"]["weights"] == report["weights"]


def test_what_was_asked_for_is_taken_and_verified_again(both):
    out = convert(both, "--weights", "model_ema")
    assert "warning" not in out and "note: took the weights at model_ema; in the file are also model (depth" in out
    repo = both.parent / "both-hf"
    written = load_file(repo / "model.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in encoder_part(E).items())
    assert verify_repo(str(repo), both)["embeddings"]["largest_difference"] >= 0
    torch.save({"model_state_dict": E}, both.parent / "alone.pth")  # the same weights, at another place
    verify_repo(str(repo), both.parent / "alone.pth")
    torch.save({"model_state_dict": S}, both.parent / "other.pth")
    line = refusal("--verify", repo, "--against", both.parent / "other.pth")
    assert "is not what" in line and "it is not its source" in line


def test_patterns_are_kept_for_the_next_verification(tmp_path):
    torch.save({"model": encoder_part(S) | {"head.weight": torch.ones(2, 12)}}, tmp_path / "a.pth")
    out = convert(tmp_path / "a.pth", "--ignore", "head.*")
    assert "dropped: head.weight (nothing uses them)" in out
    report = json.loads((tmp_path / "a-hf" / "conversion_report.json").read_text())
    assert report["dropped"] == ["head.weight"] and report["keys"]["head.weight"] is None
    assert report["source"]["weights"]["ignored"] == ["head.*"]
    verify_repo(str(tmp_path / "a-hf"), tmp_path / "a.pth")


def test_the_report_tells_no_place_and_the_verification_finds_the_weights_all_the_same(tmp_path):
    torch.save({"runs": {"/home/anna/last.pth": S, "/home/anna/first.pth": E}}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth")
    text = (tmp_path / "a-hf" / "conversion_report.json").read_text(encoding="utf-8")
    assert "anna" not in text and source(tmp_path / "a-hf")["weights"]["path"] == 'runs."…/last.pth"'
    verify_repo(str(tmp_path / "a-hf"), tmp_path / "a.pth")


def test_the_library_warns_of_several(both):
    with pytest.warns(UserWarning, match=re.escape("takes the weights at model; there are also model_ema")):
        found = read_depth_checkpoint(both)
    assert torch.equal(found.tensors["encoder.fc.6.bias"], S["encoder.fc.6.bias"])
    with pytest.warns(UserWarning, match="there are also model_ema"):
        encoder = SemanticEncoder(latent_dim=12, pretrained_path=str(both))
    assert torch.equal(encoder.state_dict()["encoder.fc.6.bias"], S["encoder.fc.6.bias"])


def test_the_optimizer_under_any_key_is_the_training_s(tmp_path):
    torch.save({"model": M, "optimizer": adamw_state(M), "epoch": 2, "global_step": 30}, tmp_path / "a.pt")
    convert(tmp_path / "a.pt", "--allow-no-tokenizer", "--with-training-state", "--no-verify")
    tensors, info = read_training_state(tmp_path / "a-hf")
    assert info["epoch"] == 2 and "text_projection.weight.exp_avg" in tensors
    torch.save({"model": M, "optimizer": adamw_state(M), "optimizer_2": adamw_state(M)}, tmp_path / "b.pt")
    assert "holds no optimizer_state_dict" in refusal(
        tmp_path / "b.pt", "--allow-no-tokenizer", "--with-training-state", "--no-verify"
    )


def test_a_folder_of_shards_has_a_digest_and_a_size(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    names, weight_map = list(S), {}
    for number, part in enumerate((names[:200], names[200:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: S[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    convert(folder)
    report = source(tmp_path / "shards-hf")
    assert report["name"] == "shards" and len(report["sha256"]) == 64
    assert report["size"] == sum(file.stat().st_size for file in folder.iterdir())
    verify_repo(str(tmp_path / "shards-hf"), folder)
