"""Exported repos in transformers.js, under Node: the embeddings of texts and pictures are ours."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from hf_encoders import load_encoder
from hf_encoders.export import export
from tests.conftest import SAMPLES
from tests.helpers.any_encoders import save_encoder

pytest.importorskip("transformers.exporters")
pytest.importorskip("nncf")
pytestmark = pytest.mark.slow
VERSION = "4.3.2"
ROOMS = SAMPLES / "rooms" / "validation.parquet"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A function that embeds by transformers.js; skips where Node or the package registry is not there."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(Path(__file__).with_name("embed.mjs"), folder)
    # Its own postinstall scripts want files from elsewhere.
    install = ["npm", "install", "--ignore-scripts", "--no-audit", f"@huggingface/transformers@{VERSION}"]
    installed = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300)
    if installed.returncode:
        pytest.skip(f"npm could not install transformers.js: {installed.stderr[-200:]}")

    def embed(*arguments):
        words = [str(arguments[0]), *map(json.dumps, arguments[1:])]
        done = subprocess.run(["node", "embed.mjs", *words], cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return {name: torch.tensor(rows) for name, rows in json.loads(done.stdout).items()}

    return embed


def test_texts_and_pictures_of_the_bundled_model(node, tmp_path):
    export(
        str(SAMPLES / "multimodal-rooms"), tmp_path / "out", "onnx", towers=["text", "image"], calibration=str(ROOMS)
    )
    encoder = load_encoder(tmp_path / "out")
    rows = Dataset.from_parquet(str(ROOMS)).select(range(4))
    size = encoder.tower("image").processor.size
    # As large as the processor makes them: its resizing is PIL's, and that of transformers.js is another.
    pictures = [image.convert("RGB").resize((size["width"], size["height"])) for image in rows["image"]]
    files = [str(tmp_path / f"{number}.png") for number in range(len(pictures))]
    for picture, file in zip(pictures, files, strict=True):
        picture.save(file)
    found = node(tmp_path / "out", rows["caption"][:], files)
    expected = {
        "text": encoder.tower("text").encode(rows["caption"][:], normalize=False),
        "image": encoder.tower("image").encode(pictures, normalize=False),
    }
    for name, rows_ in expected.items():
        assert (found[f"{name}_fp32"] - rows_).abs().max() <= 1e-4 * rows_.abs().max()
        assert torch.cosine_similarity(found[f"{name}_q8"], rows_).min() > 0.99


def test_a_pipeline_of_text_features(node, tmp_path):
    texts = ["a red chair", "the lamp on a table"]
    export(str(save_encoder("bert", tmp_path / "model")), tmp_path / "out", "onnx")
    expected = load_encoder(tmp_path / "out", pooling="mean").tower("text").encode(texts, normalize=False)
    found = node(tmp_path / "out", texts)["text_fp32"]
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
