"""Pushing and verifying other people's encoders: those that were converted, and those that were not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, snapshot_download
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from hf_encoders import load_encoder
from hf_encoders.command_line import run
from hf_encoders.commands.main import command
from hf_encoders.conversion.convert import convert
from hf_encoders.maker import maker
from tests.helpers.any_encoders import save_encoder
from tests.helpers.encoder_files import ResNet, randomised


@pytest.fixture
def converted(tmp_path):
    torch.save({"model": randomised(ResNet(classes=3)).state_dict()}, tmp_path / "a.pth")
    return convert(tmp_path / "a.pth", tmp_path / "repo")


def words(*parts):
    command([str(part) for part in parts])


def test_a_converted_encoder_is_pushed_whole_and_verified_from_the_hub(hub_client, converted, tmp_path, capsys):
    (converted / "notes.log").write_text("mine")
    words("push", converted, "org/resnet", "--dry-run")
    listed = capsys.readouterr().out
    words("push", converted, "org/resnet")
    out = capsys.readouterr().out
    assert "left out: notes.log" in out and "pushed to" in out
    files = set(hub_client.list_repo_files("org/resnet")) - {".gitattributes"}
    assert files == {path.name for path in converted.iterdir()} - {"notes.log"}
    assert {"README.md", "conversion_report.json", "model.safetensors", "preprocessor_config.json"} <= files
    assert all(file in listed for file in files) and not any(file.endswith(".py") for file in files)
    card = ModelCard.load("org/resnet")
    assert card.data.tags and "converted" in card.data.tags and "org/resnet" in card.text
    assert AutoModel.from_pretrained("org/resnet") and AutoImageProcessor.from_pretrained("org/resnet")
    words("verify", "org/resnet")
    words("verify", "org/resnet", "--against", tmp_path / "a.pth")
    assert capsys.readouterr().out.count("last_hidden_state differ by") == 2


def test_an_encoder_of_the_hub_embeds_at_its_revision(hub_client, converted, tmp_path):
    words("push", converted, "org/revised")
    picture = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(255, size=(40, 50, 3), dtype=np.uint8)).save(picture)
    words("encode", "org/revised", picture, "--output", tmp_path / "out.npz")
    encoder = load_encoder(str(converted))
    expected = encoder.encode_image([str(picture)], convert_to="numpy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["embeddings"], expected, rtol=1e-4, atol=1e-4)
    first = Path(snapshot_download("org/revised")).name
    settings = json.loads((converted / "preprocessor_config.json").read_text())
    (converted / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.0, 0.0, 0.0]}))
    words("push", converted, "org/revised")
    for revision, mean in (("main", 0), (first, settings["image_mean"][0])):
        encoder = load_encoder("org/revised", revision=revision)
        assert encoder.image_processor.image_mean[0] == mean
        made_by = maker(encoder)
        assert (made_by["name_or_path"], made_by["revision"] == first) == ("org/revised", revision == first)
        assert len(made_by["revision"]) == 40


def test_metrics_are_of_the_weights_as_they_are_evaluated(converted, hub_client, tmp_path, capsys):
    """Of a model whose pooler was never trained, `evaluate` leaves the pooler out, and so does the card."""
    from datasets import Dataset

    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(255, size=(40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    rows = {"image": [str(folder / f"{index}.png") for index in range(4)], "label": ["a", "b", "a", "b"]}
    for name in ("train", "test"):
        Dataset.from_dict(rows).to_parquet(tmp_path / f"{name}.parquet")
    learned = ["--train-dataset", tmp_path / "train.parquet", "--tasks", "knn", "--label-column", "label", "--k", "1"]
    for repo in (converted, without_pooler(converted, tmp_path / "bare")):
        words("evaluate", repo, tmp_path / "test.parquet", *learned, "--output", repo / "metrics_test.json")
        words("push", repo, f"org/measured-{repo.name}")
        assert "metrics_test.json" in hub_client.list_repo_files(f"org/measured-{repo.name}")
        assert ModelCard.load(f"org/measured-{repo.name}").data.eval_results


def without_pooler(converted, repo):
    """The repo of a ViT whose report says that its pooler is made up."""
    save_encoder("vit", repo)
    report = json.loads((converted / "conversion_report.json").read_text())
    from hf_encoders.fingerprint import sha256

    report |= {"untrained": ["pooler"], "weights_sha256": {"model.safetensors": sha256(repo / "model.safetensors")}}
    (repo / "conversion_report.json").write_text(json.dumps(report))
    return repo


@pytest.mark.parametrize("family", ["vit", "bert", "clip"])
def test_what_is_neither_ours_nor_converted_gets_one_line(family, hub_client, tmp_path, capsys):
    repo = save_encoder(family, tmp_path / "repo")
    before = sorted(path.name for path in repo.iterdir())
    for arguments, said in (
        (["push", repo, f"org/plain-{family}"], "neither ours (depth_semantic_encoder, multimodal_encoder) nor conv"),
        (["push", repo, f"org/plain-{family}", "--dry-run"], "or hf upload, pushes others"),
        (["verify", repo], "has no conversion_report.json"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run(lambda arguments=arguments: words(*arguments))
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1 and said in error, error
    assert not hub_client.repo_exists(f"org/plain-{family}")
    assert sorted(path.name for path in repo.iterdir()) == before
