"""What both READMEs print is what happens, in either language."""

import re
import shutil

import pytest
import torch

from hf_encoders.legacy.semantic_encoder import SemanticEncoder
from tests.conftest import ROOT
from tests.helpers.printed_pages import PROGRAM, blocks, command_lines, link_clone, run_page

NAMES = ("README.md", "README.zh-CN.md")
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, in which a clone's folders are."""
    link_clone(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_every_line_runs_in_its_order(name, folder, hub, hub_client):
    """What an earlier line wrote is what a later one reads."""
    run_page(PAGES[name], folder)
    assert (folder / "found.png").is_file() and (folder / "embedded" / "manifest.json").is_file()
    assert hub.has_repo("model", "org/roberta")


def test_both_languages_have_the_same_commands():
    """Remarks and printed lines are translated; commands and code are not."""
    english, chinese = (
        [line for block in blocks(page) if block.language in ("sh", "python", "") for line in command_lines(block.text)]
        for page in PAGES.values()
    )
    assert english == [line for line in chinese if line in english]
    assert len(english) > 25


@pytest.mark.parametrize("name", NAMES)
def test_it_is_read_in_ten_minutes(name):
    assert PAGES[name].count("\n") < 150


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file(name):
    targets = re.findall(r"\]\(([^)#\s]+)[^)\s]*\)", PAGES[name])
    assert len(targets) > 15
    for target in targets:
        assert "://" in target or (ROOT / target).exists(), target


def test_trainings_are_named_as_they_are():
    """What is shown and not run, since it needs data of one's own, names recipes and modules that there are."""
    shown = [line for block in blocks(PAGES["README.md"]) if block.language == "" for line in command_lines(block.text)]
    recipes = {path.stem for path in (ROOT / "hf_encoders/training/recipes").glob("*.yaml")}
    named = [line.split()[2] for line in shown if line.startswith(f"{PROGRAM} train")]
    assert named and set(named) <= recipes
    assert "accelerate launch training/pretrain.py" in shown and (ROOT / "training/pretrain.py").is_file()


def test_the_makefile_is_there():
    assert shutil.which("make")


@pytest.mark.parametrize("page", ["README.zh-CN.md", "docs/legacy.md"])
def test_every_old_call_has_a_row(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    old = {name for name in vars(SemanticEncoder) if not name.startswith("_")} - {"forward", "device", "frozen"}
    rows = "\n".join(re.findall(r"^\|([^|]*)\|", text, re.MULTILINE))
    assert {name for name in old if name not in rows} == set()
    saved = torch.load(ROOT / "samples/legacy/depth_autoencoder_small.pth", map_location="cpu", weights_only=True)
    for key in ("input_channels", "latent_dim", "height_range", "image_size"):
        assert key in saved["config"] and f"`{key}`" in rows
