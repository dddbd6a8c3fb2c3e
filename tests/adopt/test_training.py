"""Adopted networks are trained as towers: by the training command, where a person trusts their code."""

import json
import os
import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from hf_encoders.models.input_errors import InputError
from hf_encoders.training import pretrain, pretrain_depth
from tests.adopt.conftest import GREY, command
from tests.conftest import ROOT, SAMPLES
from tests.helpers.any_encoders import save_encoder
from tests.helpers.own_networks import built, write_project

pytestmark = pytest.mark.usefixtures("first_run")
TRUST = "--trust_remote_code"
NORMED = """
from torch import nn
from torch.nn.utils import weight_norm


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = weight_norm(nn.Conv2d(3, 4, 4, 4))
        self.last = nn.Linear(64, 6)

    def forward(self, image):
        x = self.first(image)
        return self.last(x.view(x.size(0), -1))
"""
OPTIONS = (
    "--batch_size=4", "--gradient_accumulation_steps=1", "--warmup_steps=0", "--num_workers=0", "--learning_rate=1e-3",
    "--lr_schedule=constant", "--report_to=none", "--mixed_precision=no", "--seed=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(8)).to_parquet(file)
    return str(file)


@pytest.fixture
def train(rows, tmp_path):
    """Train into the folder `out`."""

    def run(*words: object):
        words = ("--dataset", rows, *OPTIONS, "--output_dir", tmp_path / "out", *words)
        pretrain.command([str(word) for word in words])
        return tmp_path / "out"

    return run


@pytest.fixture
def towers(repos):
    return ["--text_model", repos("text"), "--vision_model", repos("vit"), "--projection_dim=8"]


def moved(folder, before, tower):
    """The weights of a tower that training changed."""
    after = load_file(folder / "model.safetensors")
    return [name for name, tensor in before.items() if not torch.equal(tensor, after[f"{tower}.network.{name}"])]


def test_towers_of_their_own_code_are_trained(towers, train, repos):
    out = train(*towers, "--epochs=1", TRUST)
    for tower, name in (("text_encoder", "text"), ("visual_encoder", "vit")):
        weights = load_file(repos(name) / "model.safetensors")
        before = {key.removeprefix("network."): tensor for key, tensor in weights.items()}
        assert moved(out, before, tower), tower
    model = AutoModel.from_pretrained(out, trust_remote_code=True)
    embeds = model.encode_text(["a chair", "zebra"])
    assert embeds.shape == (2, 8) and not torch.allclose(embeds[0], embeds[1])
    recipe = (out / "training_recipe.yaml").read_text()
    assert "text_model: text" in recipe and "trust" not in recipe


def test_it_goes_on_with_what_a_checkpoint_holds(towers, train, tmp_path):
    whole = train(*towers, "--epochs=2", TRUST).rename(tmp_path / "whole")
    train(*towers, "--epochs=2", "--max_steps=3", "--checkpoint_steps=3", TRUST)
    resumed = train(*towers, "--epochs=2", "--resume_from_checkpoint=latest", TRUST)
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_joined_repo_is_trained_further_and_pushed(towers, train, tmp_path, hub, hub_client):
    first = train(*towers, "--epochs=1", TRUST).rename(tmp_path / "first")
    last = train("--init_from", first, "--teacher", first, "--epochs=1", "--push_to_hub=org/trained", TRUST)
    pushed = set(hub_client.list_repo_files("org/trained"))
    assert {path.name for path in first.glob("*.py")} <= pushed and "model.safetensors" in pushed
    loaded = AutoModel.from_pretrained("org/trained", trust_remote_code=True)
    here = AutoModel.from_pretrained(last, trust_remote_code=True)
    one, two = loaded.state_dict(), here.state_dict()  # embeddings may differ by where memory lies
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    command("encode", last, SAMPLES / "photos", "--output", tmp_path / "photos.npz", "--trust-remote-code")


def test_two_processes_train_one(towers, rows, tmp_path):
    """The code of repos is copied by one process, and found by the other."""
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"]
    run = ["training/pretrain.py", "--dataset", rows, *OPTIONS, "--epochs=1", "--output_dir", tmp_path / "out", TRUST]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    words = [sys.executable, *map(str, (*launch, *run, *towers, "--text_teacher", towers[1]))]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    (checkpoint,) = (tmp_path / "out" / "checkpoints").glob("checkpoint-*")
    assert json.loads((checkpoint / "progress.json").read_text())["processes"] == 2
    assert AutoModel.from_pretrained(tmp_path / "out", trust_remote_code=True).encode_text(["a"]).shape == (1, 8)


def test_no_code_runs_without_consent(towers, repos, train, tmp_path):
    """The word is said on the command line each time, for a checkpoint may be somebody else's."""
    save_encoder("vit", tmp_path / "vit")
    rooms, text = SAMPLES / "multimodal-rooms", repos("text")
    for words in (
        ["--text_model", text, "--vision_model", tmp_path / "vit"],
        ["--init_from", text],
        ["--init_from", rooms, "--teacher", text],
        ["--init_from", rooms, "--text_teacher", text],
    ):
        with pytest.raises(InputError, match=r"text: needs code of its repo .*; read it, then say --trust_remote_code"):
            train(*words, "--epochs=1")
        assert not (tmp_path / "out").exists()
    out = train(*towers, "--max_steps=1", TRUST)
    before = sorted(out.rglob("*"))
    with pytest.raises(InputError, match="then say --trust_remote_code"):
        train(*towers, "--max_steps=2", "--resume_from_checkpoint=latest")
    assert sorted(out.rglob("*")) == before


@pytest.fixture(scope="module")
def normed(tmp_path_factory):
    """A network of images that PyTorch cannot copy once it has been used, and that computes nothing again."""
    folder = tmp_path_factory.mktemp("normed")
    write_project(folder, {"net.py": NORMED})
    torch.save(built(NORMED, "Normed").state_dict(), folder / "normed.pt")
    command("adopt", f"{folder}/net.py:Normed", "--weights", folder / "normed.pt", "--input", "1x3x16x16",
            "--embedding", "output", *GREY, "--output", folder / "repo")  # fmt: skip
    return folder / "repo"


def test_what_cannot_be_copied_is_saved_in_half_precision(normed, repos, train):
    words = ["--text_model", repos("text"), "--vision_model", normed, "--projection_dim=8", "--max_steps=1", TRUST]
    saved = load_file(train(*words, "--save_dtype=float16") / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values() if tensor.is_floating_point()} == {torch.float16}
    assert any("_g" in name or "original0" in name for name in saved)


def test_what_a_network_cannot_do_is_said(normed, repos, train):
    words = ["--text_model", repos("text"), "--vision_model", normed, "--projection_dim=8", "--max_steps=1", TRUST]
    with pytest.raises(ValueError, match="--gradient_checkpointing: neither text_encoder nor visual_encoder can"):
        train(*words, "--gradient_checkpointing")
    with pytest.raises(ValueError, match="--ema_decay: the model cannot be copied .*; leave it out"):
        train(*words, "--ema_decay=0.9")


def test_another_tokenizer_keeps_to_the_length_of_the_network(repos, train, tmp_path):
    """How long a text may be, only the tokenizer of an adopted network knows: 16."""
    tokenizer = AutoTokenizer.from_pretrained(repos("text"))
    tokenizer.model_max_length = 100
    tokenizer.save_pretrained(tmp_path / "longer")
    save_encoder("vit", tmp_path / "vit")
    words = ["--text_model", repos("text"), "--vision_model", tmp_path / "vit", "--projection_dim=8", "--max_steps=1"]
    model = AutoModel.from_pretrained(train(*words, "--tokenizer", tmp_path / "longer", TRUST), trust_remote_code=True)
    assert model.processor.tokenizer.model_max_length == 16
    assert model.processor(text=["a chair"])["input_ids"].shape == (1, 16)


def test_nobody_is_asked_at_the_terminal(repos, train, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    depth = ["--dataset", SAMPLES / "rooms", "--init_from", repos("text"), "--output_dir", tmp_path / "depth"]
    with pytest.raises(InputError, match=r"a model whose code lies in its repo \(.*\.py\), which is not run here"):
        pretrain_depth.command([str(word) for word in depth])
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    settings = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    (tokenizer / "own.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(InputError, match=r"its tokenizer needs code of its repo \(own.py\), which was not run"):
        train("--init_from", SAMPLES / "multimodal-rooms", "--tokenizer", tokenizer)


def test_a_recipe_does_not_consent(towers, train, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("trust_remote_code: true\n")
    with pytest.raises(
        ValueError, match="recipe.yaml: trust_remote_code is not for a recipe to say; say --trust_remote"
    ):
        pretrain.command([str(recipe), "--dataset", "x"])


def test_a_described_model_has_no_tower_of_its_own_code(repos, train, tmp_path):
    with pytest.raises(ValueError, match="a network of its own code is no part of --model_config"):
        train("--text_model", repos("text"), "--model_config", '{"vision_config": {"model_type": "resnet"}}', TRUST)
