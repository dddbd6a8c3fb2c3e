import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hf_encoders.commands import main as cli
from tests.helpers.own_networks import (
    AUDIO,
    CHARACTERS,
    CNN,
    CNN_UTILS,
    LIT,
    VIT,
    VIT_ATTENTION,
    built,
    write_project,
)

GREY = ("--modality", "image", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--license", "mit")
ALPHABET = {
    "<pad>": 0,
    "<unk>": 1,
    **{letter: 2 + number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz ")},
}
# Project → the words of the command but for --weights and --output.
SHAPES = {
    "cnn": ("net.py:Encoder", "best.pth", "--kwargs-from", "args", "--input", "1x3x32x32", "--embedding",
            "output['vector']", *GREY),
    "vit": ("pkg/vit.py:ViT", "last.ckpt", "--kwargs", '{"dim": 16, "depth": 3}', "--input", "1x3x32x32",
            "--embedding", "output[0].mean(1)", *GREY),
    "audio": ("wave.py:WaveEncoder", "wave.pt", "--kwargs", "{kernel: 4, widths: [5, 7]}", "--input", "1x200",
              "--embedding", "output.mean(1)"),
    "text": ("chars.py:CharNet", "chars.pt", "--kwargs", '{"vocab_size": 30}', "--input", "1x16", "--input",
             "mask=1x16", "--embedding", "output.mean(1)", "--modality", "text", "--tokenizer", "alphabet.json"),
    "lit": ("lit.py:Lit.encoder", "last.ckpt", "--kwargs-from", "hyper_parameters", "--input", "1x3x32x32", *GREY),
}  # fmt: skip


def command(*words: object) -> None:
    """Run a command of the package."""
    cli.command([str(word) for word in words])


@pytest.fixture(scope="session")
def projects(tmp_path_factory) -> Path:
    """A folder with five projects of research code, each with its checkpoint."""
    folder = tmp_path_factory.mktemp("projects")
    files = {
        "cnn/net.py": CNN,
        "cnn/utils.py": CNN_UTILS,
        "vit/pkg/__init__.py": "",
        "vit/pkg/vit.py": VIT,
        "vit/pkg/attention.py": VIT_ATTENTION,
        "vit/pkg/config.py": "PATCH = 8\n",
        "audio/wave.py": AUDIO,
        "text/chars.py": CHARACTERS,
        "lit/lit.py": LIT,
    }
    write_project(folder, files)
    block = CNN_UTILS.replace("import matplotlib_is_not_here\n", "")
    settings = {"stem": 4, "model": {"widths": [6, 8], "stride": 2}}
    from hf_encoders.adopt.settings_object import Settings

    cnn = built(block + CNN.replace("from utils import conv_block", ""), "Encoder", Settings(settings))
    torch.save({"model": cnn.state_dict(), "args": settings}, folder / "cnn" / "best.pth")
    vit = VIT.replace("from .attention import Attention", "").replace("from . import config as defaults", "")
    attention = VIT_ATTENTION.replace("@torch.jit.script", "")  # a text without a file has no source to compile
    vit_network = built(attention + vit.replace("defaults.PATCH", "8"), "ViT", 16, depth=3)
    state_dict = {f"module.{name}": tensor for name, tensor in vit_network.state_dict().items()}
    torch.save({"state_dict": state_dict, "epoch": 3}, folder / "vit" / "last.ckpt")
    torch.save(built(AUDIO, "WaveEncoder", 4, 5, 7).state_dict(), folder / "audio" / "wave.pt")
    torch.save(built(CHARACTERS, "CharNet", 30).state_dict(), folder / "text" / "chars.pt")
    backbone = LIT.replace("import lightning_is_not_here as L", "").partition("class Lit(")[0]
    tensors = {f"encoder.{name}": tensor for name, tensor in built(backbone, "Backbone", 6, 2).state_dict().items()}
    tensors |= {"head.weight": torch.ones(5, 6), "head.bias": torch.ones(5)}
    lit = {"state_dict": tensors, "hyper_parameters": {"width": 6, "lr": 0.1}, "pytorch-lightning_version": "2.0"}
    torch.save(lit, folder / "lit" / "last.ckpt")
    return folder


@pytest.fixture(scope="session")
def repos(projects, tmp_path_factory) -> Callable[[str], Path]:
    """Project → its adopted repo, in a folder without the project; each is adopted when a test asks for it."""
    folder = tmp_path_factory.mktemp("repos")

    def repo(name: str):
        if not (folder / name).exists():
            (projects / "text" / "alphabet.json").write_text(json.dumps(ALPHABET))
            target, weights, *words = SHAPES[name]
            words = [str(projects / "text" / word) if word == "alphabet.json" else word for word in words]
            places = [f"{projects / name}/{target}", "--weights", str(projects / name / weights)]
            cli.command(["adopt", *places, *words, "--output", str(folder / name)])
        return folder / name

    return repo
