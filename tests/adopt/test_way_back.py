"""An adopted repo is verified again, and goes back into the file that its own code loads."""

import json
import shutil

import pytest
import torch

from hf_encoders.adopt.errors import AdoptError
from tests.adopt.conftest import command
from tests.helpers.own_networks import imported, trained, write_project

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, depth=2, head=True):
        super().__init__()
        self.first = nn.Linear(4, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.layers[-1].weight = self.layers[0].weight
        self.norm = torch.nn.utils.weight_norm(nn.Linear(width, width))

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = layer(x).relu()
        return self.norm(x)


class Around(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = Net(width // 2)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, its checkpoint and its repo."""
    folder = tmp_path_factory.mktemp("back")
    write_project(folder, {"net.py": NET})
    network = trained(imported(folder / "net.py", "Net")(6))
    content = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": content | {"head.weight": torch.ones(2)}}, folder / "last.ckpt")
    command("adopt", f"{folder}/net.py:Net", "--weights", folder / "last.ckpt", "--kwargs", '{"width": 6}', "--input",
            "1x4", "--ignore", "head.*", "--output", folder / "repo")  # fmt: skip
    return folder


def test_the_old_state_dict_comes_back(folder, tmp_path, capsys):
    command("export-legacy", folder / "repo", tmp_path / "back.pt")
    assert "missing: head.weight, which was ignored" in capsys.readouterr().out
    before = torch.load(folder / "last.ckpt")["state_dict"]
    after = torch.load(tmp_path / "back.pt")["state_dict"]
    assert set(after) == set(before) - {"head.weight"}
    assert all(torch.equal(after[name], before[name]) for name in after)
    network = torch.nn.Module()
    network.module = imported(folder / "net.py", "Net")(6)
    network.load_state_dict(after)


def test_a_model_that_was_saved_again_comes_back_too(folder, tmp_path):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder / "repo", trust_remote_code=True)
    with torch.no_grad():
        model.network.norm.weight_g += 1
    model.save_pretrained(tmp_path / "again")
    shutil.copy(folder / "repo" / "conversion_report.json", tmp_path / "again")
    command("export-legacy", tmp_path / "again", tmp_path / "back.pt")
    before = torch.load(folder / "last.ckpt")["state_dict"]["module.norm.weight_g"]
    after = torch.load(tmp_path / "back.pt")["state_dict"]["module.norm.weight_g"]
    assert torch.equal(after, before + 1)


def test_a_repo_is_verified_again_against_its_class(folder, capsys):
    command("verify", folder / "repo", "--original", f"{folder}/net.py:Net", "--against", folder / "last.ckpt")
    assert "verified against Net of net.py with the weights of last.ckpt, float32, CPU: the same bits" in (
        capsys.readouterr().out
    )


def test_arguments_are_those_of_the_network_where_the_class_around_it_is_named(folder, capsys):
    command("verify", folder / "repo", "--original", f"{folder}/net.py:Around.net", "--against", folder / "last.ckpt")
    assert "the same bits" in capsys.readouterr().out


def test_the_files_alone_are_verified_without_the_class(folder, capsys):
    command("verify", folder / "repo")
    assert "of weights and code are those that were verified" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda repo: (repo / "net.py").write_text("import os\n"), "net.py is not the file that was verified"),
        (lambda repo: (repo / "more.py").write_text("import os\n"), "more.py is code that was not verified"),
        (lambda repo: (repo / "model.safetensors").unlink(), "model.safetensors is missing"),
    ],
)
def test_changed_files_are_found(folder, tmp_path, change, message):
    repo = shutil.copytree(folder / "repo", tmp_path / "repo")
    change(repo)
    with pytest.raises(AdoptError, match=message):
        command("verify", repo)


def test_another_class_and_another_file_are_found(folder, tmp_path):
    write_project(tmp_path, {"net.py": NET.replace("relu()", "tanh()")})
    with pytest.raises(AdoptError, match="net.py is not what Net of net.py gives now, so it is not run"):
        command("verify", folder / "repo", "--original", f"{tmp_path}/net.py:Net", "--against", folder / "last.ckpt")
    content = torch.load(folder / "last.ckpt")
    content["state_dict"]["module.first.bias"] += 1
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(AdoptError, match=r"'module.first.bias' is not what .*repo holds"):
        command("verify", folder / "repo", "--original", f"{folder}/net.py:Net", "--against", tmp_path / "other.ckpt")


def test_words_that_do_not_fit_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="is compared with --original and --against together"):
        command("verify", folder / "repo", "--against", folder / "last.ckpt")
    with pytest.raises(ValueError, match="has no decoder; leave --autoencoder out"):
        command("export-legacy", folder / "repo", tmp_path / "back.pt", "--autoencoder")
    repo = shutil.copytree(folder / "repo", tmp_path / "repo")
    report = json.loads((repo / "conversion_report.json").read_text())
    report["keys"]["more"] = "more.weight"
    (repo / "conversion_report.json").write_text(json.dumps(report))
    with pytest.raises(AdoptError, match="lacks 'more.weight', which its report names"):
        command("export-legacy", repo, tmp_path / "back.pt")
    (tmp_path / "back.pt").touch()
    with pytest.raises(OSError, match="back.pt"):
        command("export-legacy", folder / "repo", tmp_path / "back.pt")
