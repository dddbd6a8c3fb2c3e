"""Every command that reads a folder says what it leaves out of it, counted by kind."""

import numpy as np
import PIL.Image
import pytest

from hf_encoders.commands import main as cli
from tests.helpers.multimodal_models import tiny_model


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A model, and a folder of photos in two classes with files that are none."""
    monkeypatch.chdir(tmp_path)
    tiny_model().save_pretrained("repo")
    for number, name in enumerate(("chair/0.png", "chair/1.png", "lamp/0.png", "lamp/1.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.random.RandomState(number).randint(0, 256, (40, 40, 3), np.uint8)).save(path)
    for name in ("notes.docx", "chair/LICENSE", ".DS_Store"):
        (tmp_path / "photos" / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["encode", "repo", "photos"],
        ["search", "repo", "photos", "a chair"],
        ["classify", "repo", "photos", "--labels", "chair,lamp"],
        ["embed", "repo", "photos", "--output", "out"],
        [
            *("evaluate", "repo", "photos", "--split", "train", "--tasks", "zero-shot"),
            *("--label-column", "label", "--modalities", "image"),
        ],
    ],
    ids=lambda words: words[0],
)
def test_what_is_left_out_is_said_on_one_line(words, place, capsys):
    cli.command(words)
    assert capsys.readouterr().err.count("photos: left out: 1 .docx, 1 without a suffix, 1 .DS_Store\n") == 1
