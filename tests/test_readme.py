"""What the README prints is what happens."""

import re
import shutil
import subprocess

import pytest
import torch

from tests.conftest import ROOT
from tests.conversion.encoders.test_texts import clip as write_clip_tokenizer
from tests.helpers.clip_network import Clip
from tests.helpers.multimodal_files import write_multimodal
from tests.helpers.multimodal_models import SPECIAL, WORDS
from tests.helpers.printed_pages import PROGRAM, blocks, command_lines, link_clone, missing_lines, run_code, run_line
from tests.helpers.small_texts import SmallBert

README = (ROOT / "README.md").read_text()
# Training takes minutes, and data that a person brings.
LEFT_OUT = ("hf-encoders train", "hf-encoders evaluate")
# BERT base has 12 heads; the tiny towers of the test, whose hidden size is 128, cannot have them.
HEADS, TINY_HEADS = "--attention-heads 12", "--attention-heads 2"


def of_language(language):
    return [block.text for block in blocks(README) if block.language == language]


LANCE_SEARCH = 'hf-encoders search samples/multimodal-rooms objects.lance "a red chair" --where noun=chair'


def write_encoders(folder):
    """Small networks in the files of other people's encoders."""
    torch.save(Clip(text=128, image=128, heads=(2, 2), vocabulary=520).state_dict(), folder / "ViT-B-32.pt")
    write_clip_tokenizer(folder / "clip-tokenizer")
    bert = SmallBert(width=128).state_dict()
    both = {f"{name}.{key}": tensor for name in ("question_model", "ctx_model") for key, tensor in bert.items()}
    torch.save({"model_dict": both}, folder / "dpr_biencoder.20")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with what the README's lines name."""
    link_clone(tmp_path)
    write_multimodal(tmp_path / "best_checkpoint.pt")
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL + WORDS))
    write_encoders(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_line_runs_in_its_order(folder, hub, hub_client):
    """What an earlier line wrote is what a later one reads."""
    lines = [line for block in of_language("sh") for line in command_lines(block)]
    printed = {
        line: run_line(line.replace(HEADS, TINY_HEADS))
        for line in lines
        if line.startswith(PROGRAM) and not line.startswith(LEFT_OUT)
    }
    assert len(printed) == 17
    for code, check in zip(
        of_language("python"),
        (
            "embeddings.shape == (1, 768)",
            "texts.shape == (2, 256)",
            "(embeddings @ model.encode_depth(['samples/maps/red_armchair.png']).T).item() > 0.999"
            " and tum.unit_scale == 1 / 5000",
            "len(rooms[0]['embedding']) == 256",
            "queries.shape == (1, 256) and documents.shape == (2, 256)",
        ),
        strict=True,
    ):
        run_code(code, names := {})
        assert eval(check, names)

    (shown,) = [block for block in of_language("") if block.startswith("samples/")]
    assert not missing_lines(shown, next(iter(printed.values())))
    assert (folder / "embeddings.npz").is_file() and (folder / "found.png").is_file()
    assert "chair" in next(out for line, out in printed.items() if " classify " in line)
    assert (folder / "embedded" / "manifest.json").is_file()
    assert all("chair" in line for line in printed[LANCE_SEARCH].splitlines())
    assert hub.has_repo("model", "org/my-encoder") and hub.repo("model", "org/rooms").private


def test_every_named_file_exists():
    named = re.findall(r"\]\(([\w/.]+)\)|`((?:conversion|benchmarks|samples)/[\w/.]*)`", README)
    for link, code in named:
        assert (ROOT / (link or code)).exists(), link or code


def test_the_makefile_has_the_two_commands():
    assert shutil.which("make")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
