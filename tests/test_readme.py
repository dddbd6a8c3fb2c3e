"""What the README prints is what happens."""

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT
from multimodal_files import write_multimodal
from multimodal_models import SPECIAL, WORDS

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, objects_test):
    """A folder with what the README's lines name."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("conversion", "samples", "model_cards"):
        (folder / name).symlink_to(ROOT / name)
    write_multimodal(folder / "best_checkpoint.pt")
    (folder / "vocab.txt").write_text("\n".join(SPECIAL + WORDS))
    (folder / "maps").mkdir()
    objects_test[0]["depth"].save(folder / "depth.png")
    objects_test[0]["depth"].save(folder / "maps" / "depth.png")
    for index, name in enumerate(("one.jpg", "two.jpg")):
        objects_test[index]["image"].save(folder / name)
    return folder


def run(line, folder, hub):
    """Run a line as the shell would; returns what it printed."""
    words = shlex.split(line)
    programs = {"python": [sys.executable], "hf-encoders": [sys.executable, "-m", "hf_encoders.cli"]}
    command = programs[words[0]] + words[1:]
    environment = hub.environment(folder / "home")
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def converted(folder, hub):
    """What the README's conversions printed."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if "convert_ckpt.py" in line]
    assert len(lines) == 3
    return [run(line, folder, hub) for line in lines]


def test_the_conversion_prints_what_the_readme_shows(converted):
    (shown,) = [block for block in blocks("") if block.startswith("samples/")]
    # The last digits of a largest difference depend on the processor.
    figures = re.compile(r"\d\.\de-\d\d(?= relative)|(?<=\()\d\.\de-\d\d")
    assert figures.sub("#", converted[0]) == figures.sub("#", shown)


def test_the_python_lines_run(converted, folder):
    checks = ["embeddings.shape == (1, 768)", "texts.shape == (2, 256)", "len(rooms[0]['embedding']) == 256"]
    for code, check in zip(blocks("python"), checks, strict=True):
        subprocess.run([sys.executable, "-c", f"{code}\nassert {check}"], cwd=folder, check=True)


def test_the_terminal_lines_run(converted, folder, hub):
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("hf-encoders")]
    printed = [run(line.partition("  #")[0], folder, hub) for line in lines]
    assert len(lines) == 4 and hub.repo("model", "org/my-encoder") and hub.repo("model", "org/rooms").private
    assert (folder / "embeddings.npz").is_file() and (folder / "found.png").is_file()
    assert "chair" in printed[2]


def test_every_named_file_exists():
    named = re.findall(r"\]\(([\w/.]+)\)|`((?:conversion|benchmarks|samples)/[\w/.]*)`", README)
    for link, code in named:
        assert (ROOT / (link or code)).exists(), link or code


def test_the_makefile_has_the_two_commands():
    assert shutil.which("make")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
