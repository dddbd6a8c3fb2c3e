"""What every command writes: with the modes that the umask asks for, and into an empty folder that is there already."""

import os
import stat

import pytest
import torch
import yaml

from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from tests.conftest import SAMPLES, SMALL_CHECKPOINT
from tests.helpers.multimodal_files import write_multimodal
from tests.helpers.runs import forget_runs
from tests.helpers.training_runs import RECIPE

MODEL, ROOMS = str(SAMPLES / "multimodal-rooms"), str(SAMPLES / "rooms" / "validation.parquet")
SIZES = "{{in_features: 4, out_features: 3}}"  # the words are a format
# Command → its words; {out} is what it writes.
FOLDERS = {
    "convert": [str(SMALL_CHECKPOINT), "--output", "{out}", "--no-verify"],
    "convert multimodal": [
        "best.pt", "--output", "{out}", "--allow-no-tokenizer", "--with-training-state", "--no-verify",
    ],
    "adopt": ["net.py:Net", "--weights", "net.pt", "--kwargs", SIZES, "--input", "1x4", "--output", "{out}"],
    "embed": [MODEL, ROOMS, "--output", "{out}", "--column", "caption", "--modality", "text"],
    "export": [MODEL, "--to", "onnx", "--tower", "text", "--output", "{out}"],
    "train": ["recipe.yaml", "--output_dir", "{out}"],
}  # fmt: skip
FILES = {
    "encode": [MODEL, "image.png", "--output", "{out}.npz"],
    "search": [MODEL, ROOMS, "a chair", "--modality", "image", "--output", "{out}.png"],
    "classify": [MODEL, ROOMS, "--labels", "chair,bed", "--modality", "image", "--output", "{out}.jsonl"],
    "evaluate": [MODEL, ROOMS, "--limit", "8", "--output", "{out}.json"],
    "export-legacy": ["multimodal", "{out}.pt"],
}
# calibrate changes a file that is there, which keeps its mode: see test_calibrate.
WRITES_NO_OUTPUT = {"demo", "inspect", "verify", "push", "completion", "calibrate"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, rooms_image):
    """A folder with what the commands read."""
    folder = tmp_path_factory.mktemp("place")
    write_multimodal(folder / "best.pt", "training")
    values = RECIPE | {"max_steps": 1, "checkpoint_steps": 1, "ema_decay": 0.9, "model_type": "multimodal_encoder"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    rooms_image.save(folder / "image.png")
    (folder / "net.py").write_text("from torch import nn\n\n\nclass Net(nn.Linear):\n    pass\n")
    torch.save(torch.nn.Linear(4, 3).state_dict(), folder / "net.pt")
    words = ["convert", str(folder / "best.pt"), "--output", str(folder / "multimodal"), "--allow-no-tokenizer"]
    cli.command([*words, "--no-verify"])
    return folder


@pytest.fixture(scope="module")
def rooms_image():
    from datasets import Dataset

    return Dataset.from_parquet(ROOMS)[0]["image"]


@pytest.fixture(params=[0o022, 0o027], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def start(name, place, monkeypatch):
    """Run a command in a folder, with the words of the tables."""
    monkeypatch.chdir(place)
    forget_runs()
    words = [word.format(out="out") for word in (FOLDERS | FILES)[name]]
    run(lambda: cli.command([name.split()[0], *words]))


def modes(folder):
    """Kind of entry → the modes that there are below a folder, but for what `place` holds."""
    found = {"file": {}, "folder": {}}
    for path in [*folder.glob("out*"), *folder.glob("out*/**/*")]:
        found["folder" if path.is_dir() else "file"].setdefault(stat.S_IMODE(path.stat().st_mode), []).append(path)
    return found


def test_every_command_that_writes_is_here():
    assert {name.split()[0] for name in FOLDERS | FILES} == set(cli.COMMANDS) - WRITES_NO_OUTPUT


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_files_have_the_modes_that_the_umask_asks_for(name, place, umask, tmp_path, monkeypatch):
    for entry in place.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    start(name, tmp_path, monkeypatch)
    found = modes(tmp_path)
    assert set(found["file"]) == {0o666 & ~umask}, found["file"]
    assert set(found["folder"]) <= {0o777 & ~umask}, found["folder"]


@pytest.mark.parametrize("name", FOLDERS)
def test_an_empty_folder_is_written_into(name, place, tmp_path, monkeypatch):
    for entry in place.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "out").mkdir(mode=0o700)
    start(name, tmp_path, monkeypatch)
    assert any((tmp_path / "out").iterdir())
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700  # as the person made it
    assert not list(tmp_path.glob(".out*"))
