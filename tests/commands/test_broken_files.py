"""Folders with broken files: every command that reads one ends, and names the file."""

import numpy as np
import pytest
import yaml
from datasets import Dataset
from datasets import Image as Pictures
from PIL import Image

from hf_encoders import command_line
from hf_encoders.commands import main as cli
from tests.helpers.multimodal_models import tiny_model
from tests.test_kills import NETWORK

# Far more than any of them takes; a hang is what fails.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken") / "model"
    tiny_model().save_pretrained(folder)
    return folder


def broken(kind, good):
    return {
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "head": good[:12],
        "text": b"no picture, but words\n" * 20,
        "a web page": b"<!DOCTYPE html><html><title>404</title></html>",
        "zeros": bytes(len(good)),
    }[kind]


KINDS = ("truncated", "empty", "head", "text", "a web page", "zeros")


@pytest.fixture(params=KINDS)
def photos(request, tmp_path):
    """Five photos in two folders of classes, one of them broken."""
    rng = np.random.default_rng(0)
    for number in range(5):
        path = tmp_path / "photos" / ("chair" if number < 3 else "lamp") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    path.with_name("broken.png").write_bytes(broken(request.param, path.read_bytes()))
    return tmp_path / "photos"


@pytest.fixture(params=[".npy", ".png"])
def suffix(request):
    return request.param


@pytest.fixture(params=KINDS)
def maps(request, tmp_path, suffix):
    """Twenty depth maps, one of them broken."""
    folder = tmp_path / "maps"
    folder.mkdir()
    for number in range(20):
        depth = np.random.default_rng(number).integers(500, 4000, (40, 40)).astype(np.uint16)
        if suffix == ".npy":
            np.save(folder / f"{number:02}.npy", depth)
        else:
            Image.fromarray(depth).save(folder / f"{number:02}.png")
    good = (folder / f"00{suffix}").read_bytes()
    (folder / f"broken{suffix}").write_bytes(broken(request.param, good))
    return folder


def ends(words, capsys):
    """Run a command; returns its exit status, and what it printed."""
    try:
        command_line.run(lambda: cli.command([str(word) for word in words]))
        status = 0
    except SystemExit as end:
        status = end.code or 0
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return status, printed.out, printed.err


READING_PHOTOS = {
    "encode": ["encode", "MODEL", "DATA", "--modality", "image", "--output", "OUT.npz"],
    "search": ["search", "MODEL", "DATA", "a red chair", "--modality", "image"],
    "classify": ["classify", "MODEL", "DATA", "--labels", "chair,lamp", "--modality", "image"],
    "evaluate": [
        "evaluate", "MODEL", "DATA", "--tasks", "zero-shot", "--split", "train", "--image-column", "image",
        "--label-column", "label",
    ],
}  # fmt: skip


@pytest.mark.parametrize("command", READING_PHOTOS)
def test_a_broken_photo_is_named(command, photos, repo, tmp_path, capsys):
    places = {"MODEL": repo, "DATA": photos, "OUT.npz": tmp_path / "out.npz"}
    status, _, error = ends([places.get(word, word) for word in READING_PHOTOS[command]], capsys)
    assert status == 2 and "broken.png" in error.strip().splitlines()[-1]
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("command", ["search", "classify"])
def test_a_broken_photo_can_be_left_out(command, photos, repo, capsys):
    words = [{"MODEL": repo, "DATA": photos}.get(word, word) for word in READING_PHOTOS[command]]
    status, out, _ = ends([*words, "--on-error", "skip"], capsys)
    assert status == 0 and "4.png" in out and "broken.png" not in out


def test_embed_counts_a_broken_photo(photos, repo, tmp_path, capsys):
    words = ["embed", repo, photos, "--output", tmp_path / "out", "--modality", "image"]
    status, out, _ = ends([*words, "--on-error", "skip"], capsys)
    assert status == 0 and "bad rows: 1" in out
    assert "broken.png" in (tmp_path / "out" / "manifest.json").read_text()


@pytest.mark.parametrize("command", ["encode", "train"])
def test_a_broken_map_is_named(command, maps, repo, suffix, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    values = {"model_type": "depth_semantic_encoder", "model_config": NETWORK, "report_to": "none", "num_workers": 0}
    recipe.write_text(yaml.safe_dump(values | {"epochs": 1, "batch_size": 8, "dataset": str(maps)}))
    words = {
        "encode": ["encode", repo, maps, "--modality", "depth", "--output", tmp_path / "out.npz"],
        "train": ["train", recipe, "--output-dir", tmp_path / "out", "--max-bad-samples", 0],
    }[command]
    status, _, error = ends(words, capsys)
    assert status == 2 and f"broken{suffix}" in error, error


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """A model one of whose weights is no number."""
    model, folder = tiny_model(), tmp_path_factory.mktemp("diverged")
    for projection in (model.text_projection, model.visual_projection, model.depth_projection):
        projection.weight.data[0, 0] = np.nan
    model.save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / "photos" / "0.png")
    rows = Dataset.from_dict({"caption": ["a red chair", "the lamp"], "image": [str(folder / "photos" / "0.png")] * 2})
    rows.cast_column("image", Pictures()).to_parquet(folder / "rows.parquet")
    return folder


WITH_NANS = {
    "encode": ["encode", "MODEL", "DATA", "--modality", "image", "--output", "OUT.npz"],
    "embed": ["embed", "MODEL", "DATA", "--modality", "image", "--output", "OUT.npz"],
    "search": ["search", "MODEL", "DATA", "a red chair", "--modality", "image"],
    "classify": ["classify", "MODEL", "DATA", "--labels", "chair,lamp", "--modality", "image"],
    "evaluate": ["evaluate", "MODEL", "ROWS", "--split", "test", "--modalities", "text", "image"],
    "export": ["export", "MODEL", "--to", "onnx", "--tower", "text", "--output", "OUT.npz"],
    "push": ["push", "MODEL", "org/never"],
}


@pytest.mark.parametrize("command", WITH_NANS)
def test_weights_that_are_no_numbers_are_named(command, diverged, tmp_path, capsys):
    places = {"MODEL": diverged / "model", "DATA": diverged / "photos", "ROWS": diverged / "rows.parquet"}
    words = [{**places, "OUT.npz": tmp_path / "out.npz"}.get(word, word) for word in WITH_NANS[command]]
    status, out, error = ends(words, capsys)
    last = error.strip().splitlines()[-1]
    assert status == 2 and "NaN or infinity" in last and "_projection.weight" in last
    assert not out and not (tmp_path / "out.npz").is_file()
