"""The examples of foreign towers, trained for a moment: a person's run takes minutes and finds more."""

import re
import runpy
import sys

import pytest
from PIL import Image

from tests.conftest import ROOT, SAMPLES

pytestmark = pytest.mark.usefixtures("first_run")

BRIEF = ["--num_workers=0", "--report_to=none"]


@pytest.fixture
def run(tmp_path_factory, monkeypatch, capsys):
    def run(name, *words):
        monkeypatch.setattr("bundled.OUTPUT", tmp_path_factory.getbasetemp() / "foreign-output")
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def recalls(line, output):
    (found,) = re.findall(rf"{line} +@1 (\d\.\d\d), @5 (\d\.\d\d), @10 (\d\.\d\d)", output)
    return [float(recall) for recall in found]


def test_two_converted_towers_are_aligned(run):
    output = run("align_towers", "--epochs=5", *BRIEF)
    assert "state dict under teacher.backbone, vit" in output and "state dict under model.decoder, roberta" in output
    assert output.count("\nverified: last_hidden_state") == 2
    assert "visual_encoder frozen" in output
    before, after = recalls("joined:", output), recalls("aligned:", output)
    assert before[2] < 0.1 and after[2] > before[2] + 0.1


def test_depth_maps_are_found_by_words(run, tmp_path):
    output = run("search_depth_by_words", tmp_path / "found.png", "--epochs=3", *BRIEF)
    assert recalls(r"\(chance @1 0\.005\):\n", output)[2] > 0.07  # by chance 0.05
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.width > 800 and picture.height > 600


def test_the_checkpoints_are_those_that_the_readme_names():
    table = (SAMPLES / "README.md").read_text()
    for path in (SAMPLES / "foreign").iterdir():
        assert f"`foreign/{path.name}`" in table
