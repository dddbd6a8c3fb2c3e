"""What the README prints is what happens."""

import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A folder in which the README's conversion command was run, and what it printed."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("conversion", "samples", "model_cards"):
        (folder / name).symlink_to(ROOT / name)
    (command,) = [line for block in blocks("sh") for line in block.splitlines() if "convert_ckpt.py" in line]
    words = [sys.executable if word == "python" else word for word in command.split()]
    printed = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout
    return folder, printed


def test_the_conversion_prints_what_the_readme_shows(converted):
    _, printed = converted
    (shown,) = [block for block in blocks("") if block.startswith("samples/")]
    # The last digits of a largest difference depend on the processor.
    figures = re.compile(r"\d\.\de-\d\d(?= relative)|(?<=\()\d\.\de-\d\d")
    assert figures.sub("#", printed) == figures.sub("#", shown)


def test_the_python_lines_run(converted, objects_test):
    folder, _ = converted
    objects_test[0]["depth"].save(folder / "depth.png")
    (code,) = blocks("python")
    check = "assert embeddings.shape == (1, 768)"
    subprocess.run([sys.executable, "-c", f"{code}\n{check}"], cwd=folder, check=True)


def test_the_terminal_line_runs(converted, objects_test):
    folder, _ = converted
    (folder / "maps").mkdir()
    objects_test[0]["depth"].save(folder / "maps" / "depth.png")
    words = re.search(r"`hf-encoders (encode .*?)`", README).group(1).split()
    subprocess.run([sys.executable, "-c", "from hf_encoders.cli import main; main()", *words], cwd=folder, check=True)
    assert (folder / "embeddings.npz").is_file()


def test_every_named_file_exists():
    named = re.findall(r"\]\(([\w/.]+)\)|`((?:conversion|benchmarks|samples)/[\w/.]*)`", README)
    for link, code in named:
        assert (ROOT / (link or code)).exists(), link or code


def test_the_makefile_has_the_two_commands():
    assert shutil.which("make")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
