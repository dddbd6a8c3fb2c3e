"""The five shapes on the Hub: pushed, loaded elsewhere by a fresh process without this package, used by the tools."""

import html
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from transformers import AutoModel

from hf_encoders import command_line
from tests.adopt.conftest import SHAPES, command
from tests.helpers.hub.processes import fresh

# Loads a repo of the Hub as anybody does, and prints the embedding of the inputs of the card.
LOAD = """
import json, sys
sys.modules["hf_encoders"] = None  # any import of it fails
import torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
inputs = json.loads(sys.argv[2])
inputs = {name: torch.ones(one["shape"], dtype=getattr(torch, one["dtype"])) for name, one in inputs.items()}
with torch.inference_mode():
    print(json.dumps(model(**inputs).pooler_output.tolist()))
"""


def inputs_of(repo):
    return json.loads((repo / "conversion_report.json").read_text())["adopted"]["inputs"]


@pytest.mark.parametrize("name", SHAPES)
def test_a_pushed_network_loads_elsewhere(repos, hub, hub_client, tmp_path, capsys, name):
    repo = repos(name)
    command("push", repo, f"org/own-{name}")
    files = set(hub_client.list_repo_files(f"org/own-{name}")) - {".gitattributes"}
    assert files == {path.name for path in repo.iterdir()} and "requirements.txt" in files
    done = fresh(hub, tmp_path / "home", sys.executable, "-c", LOAD, f"org/own-{name}", json.dumps(inputs_of(repo)))
    assert done.returncode == 0, done.stderr[-2000:]
    model = AutoModel.from_pretrained(repo, trust_remote_code=True)
    ones = {key: torch.ones(one["shape"], dtype=getattr(torch, one["dtype"])) for key, one in inputs_of(repo).items()}
    with torch.inference_mode():
        expected = model(**ones).pooler_output
    assert np.allclose(json.loads(done.stdout.splitlines()[-1]), expected.numpy(), rtol=1e-5, atol=1e-6)
    command("verify", f"org/own-{name}")
    assert "are those that were verified" in capsys.readouterr().out


def test_the_card_says_where_the_code_came_from_and_how_it_was_verified(repos, hub_client):
    command("push", repos("vit"), "org/own-card")
    card = ModelCard.load("org/own-card")
    assert card.data.license == "mit" and "adopted" in card.data.tags
    assert card.data.pipeline_tag == "image-feature-extraction"
    lines = ("`ViT` of `vit.py`", "the same bits", "read it before you run it", 'from_pretrained("org/own-card", trust')
    for said in lines:
        assert said in card.text, said
    (line,) = re.findall("`pooler_output` is <code>(.*)</code>", card.text)
    embedding = json.loads((repos("vit") / "conversion_report.json").read_text())["adopted"]["embedding"]
    assert html.unescape(line) == embedding and "[" in embedding


def test_no_licence_is_guessed(repos):
    card = ModelCard.load(repos("audio") / "README.md")
    assert card.data.license is None and "| licence | not stated |" in card.text


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of photos, and a table of them with classes."""
    from datasets import Dataset

    folder = tmp_path_factory.mktemp("photos")
    colours = ["red", "darkred", "blue", "navy"] * 4
    for number, colour in enumerate(colours):
        Image.new("RGB", (40, 36), colour).save(folder / f"{number:02}.png")
    rows = {"image": sorted(map(str, folder.glob("*.png"))), "kind": ["red", "red", "blue", "blue"] * 4}
    Dataset.from_dict(rows).to_parquet(folder / "photos.parquet")
    Dataset.from_dict({name: values[4:] for name, values in rows.items()}).to_parquet(folder / "known.parquet")
    return folder


@pytest.mark.parametrize("name", ["cnn", "vit", "lit"])
def test_images_go_through_the_tools(repos, photos, tmp_path, capsys, name):
    repo, trust = repos(name), "--trust-remote-code"
    first = photos / "00.png"
    command("encode", repo, first, photos / "02.png", "--output", tmp_path / "two.npz", trust)
    assert np.load(tmp_path / "two.npz")["embeddings"].shape[0] == 2
    command("embed", repo, photos / "photos.parquet", "--output", tmp_path / "all", trust)
    command("search", repo, tmp_path / "all", first, trust, "-k", "1")
    assert "1.000" in capsys.readouterr().out
    words = ("--tasks", "knn", "--label-column", "kind", "--split", "train", "--train-split", "train", "--k", "1")
    command("evaluate", repo, photos / "photos.parquet", "--train-dataset", photos / "known.parquet", *words, trust,
            "--output", tmp_path / "metrics.json")  # fmt: skip
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]


def test_metrics_on_the_card_are_pushed_by_those_who_trust_the_code(repos, photos, tmp_path, capsys, hub_client):
    repo, trust = tmp_path / "measured", "--trust-remote-code"
    shutil.copytree(repos("cnn"), repo)
    words = ("--tasks", "knn", "--label-column", "kind", "--split", "train", "--train-split", "train", "--k", "1")
    command("evaluate", repo, photos / "photos.parquet", "--train-dataset", photos / "known.parquet", *words, trust,
            "--card")  # fmt: skip
    assert "## Evaluation" in (repo / "README.md").read_text()
    with pytest.raises(SystemExit) as stop:
        command_line.run(lambda: command("push", repo, "org/measured"))
    assert stop.value.code == 2 and "then say --trust-remote-code" in capsys.readouterr().err
    command("push", repo, "org/measured", trust)
    assert ModelCard.load("org/measured").data.eval_results


def test_images_go_through_a_compiled_tower(repos, photos, tmp_path, capsys):
    pytest.importorskip("openvino", reason="pip install 'hf-encoders[export]'")
    command("export", repos("lit"), "--to", "openvino", "--output", tmp_path / "compiled", "--trust-remote-code")
    assert 'compiled", trust_remote_code=True).encode_image(..., backend="openvino")' in capsys.readouterr().out
    for backend in ("torch", "openvino"):
        command("encode", tmp_path / "compiled", photos / "00.png", "--backend", backend, "--output",
                tmp_path / f"{backend}.npz", "--trust-remote-code")  # fmt: skip
    one, two = (np.load(tmp_path / f"{backend}.npz")["embeddings"] for backend in ("torch", "openvino"))
    assert np.allclose(one, two, rtol=1e-3, atol=1e-4)


def test_texts_go_through_the_tools(repos, tmp_path, capsys):
    repo, trust = repos("text"), "--trust-remote-code"
    (tmp_path / "texts.txt").write_text("a cat\na dog\nsome birds\n")
    command("embed", repo, tmp_path / "texts.txt", "--output", tmp_path / "all", trust)
    command("search", repo, tmp_path / "all", "a cat", trust, "-k", "1")
    assert "1.000" in capsys.readouterr().out


def test_code_of_the_repo_is_not_run_without_consent(repos):
    from hf_encoders import load_encoder
    from hf_encoders.models.input_errors import InputError

    with pytest.raises(InputError, match="needs code of its repo .*read it, then say --trust-remote-code"):
        load_encoder(repos("cnn"))
