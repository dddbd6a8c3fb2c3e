"""The examples of training, PEFT, compilation, device maps, feature maps and scikit-learn, run as they are."""

import re
import runpy
import sys

import pytest
from PIL import Image

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def output_folder(tmp_path_factory):
    """One for all: the depth encoder is converted once."""
    return tmp_path_factory.mktemp("demo-output")


@pytest.fixture
def run(output_folder, monkeypatch, capsys):
    def run(name, *arguments):
        monkeypatch.setattr("bundled.OUTPUT", output_folder)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def differences(output):
    return [float(number) for number in re.findall(r"differ by ([\d.e+-]+)", output)]


def test_trainer(run):
    output = run("with_trainer")
    before, after = map(float, re.findall(r"([\d.]+) before, ([\d.]+) after", output)[0])
    assert before < 0.3 and after > 0.45  # the most frequent of 9 labels: 0.23
    assert re.search(r"a map of a bench: [\w ]+ \(in truth [\w ]+\)", output)


def test_peft(run):
    output = run("with_peft")
    before, after = map(float, re.findall(r"([\d.]+) before, ([\d.]+) after", output)[0])
    assert before < 0.35 and after > before + 0.15
    assert len(differences(output)) == 2 and max(differences(output)) < 1e-5
    assert "merged into a MultimodalEncoderModel" in output


def test_compile_and_export(run):
    output = run("with_compile_and_export", "eager")  # the default backend compiles for a minute
    assert len(differences(output)) == 3 and max(differences(output)) < 1e-3


def test_device_map(run):
    output = run("with_device_map")
    loaded, total = map(float, re.findall(r"([\d.]+) of ([\d.]+) MB", output)[0])
    assert 0 < loaded < 0.6 * total  # the text tower and the projections
    assert len(differences(output)) == 3 and max(differences(output)) < 1e-4


def test_feature_maps(run, tmp_path):
    output = run("with_feature_maps", tmp_path / "maps.png")
    assert re.findall(r"stride (\d+)", output) == ["4", "4", "8", "16", "32"]
    assert "layer4: 256 channels of 4x4" in output
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.width > 800


def test_scikit_learn(run):
    scores = {name: float(score) for name, score in re.findall(r"(\w.*?) +accuracy ([\d.]+)", run("with_scikit_learn"))}
    assert scores["most frequent"] < 0.3
    assert min(scores["linear"], scores["nearest of 5"], scores["pipeline"]) > 0.5
