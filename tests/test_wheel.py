"""The wheel does everything: built, installed outside of the clone, it converts, loads and trains."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile

import numpy as np
import pytest

from tests.conftest import ROOT, SAMPLES, SMALL_CHECKPOINT

LOAD = """
import sys, hf_encoders
from transformers import AutoModel
assert sys.argv[1] in hf_encoders.__file__, hf_encoders.__file__
print(list(AutoModel.from_pretrained("encoder").encode(sys.argv[2]).shape))
"""
# The sample recipe on data that is named, as there is no clone; small, for two steps.
TRAINING = [
    "sample", "--dataset", SAMPLES / "rooms" / "validation.parquet", "--tokenizer", SAMPLES / "tokenizer" / "vocab.txt",
    "--validation_split", "", "--max_steps", 2, "--batch_size", 4, "--num_workers", 0, "--report_to", "none",
]  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment that has the wheel, and the libraries of this one; and a folder to work in."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # By a .pth file the editable installation there is not followed.
    (site_packages,) = (folder / "venv" / "lib").glob("*/site-packages")
    (site_packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    (folder / "work").mkdir()
    return folder


def start(installed, program, *words):
    """Run a program of the environment in the empty folder, to whatever end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [installed / "venv" / "bin" / program, *map(str, words)],
        cwd=installed / "work",
        env=environment,
        capture_output=True,
        text=True,
    )


def run(installed, program, *words):
    """Run a program that must succeed; returns what it printed."""
    done = start(installed, program, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_it_holds_the_package_and_its_data_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"hf_encoders"}
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "hf_encoders").rglob("*") if path.is_file()}
    assert {name for name in ours if "__pycache__" not in name} <= set(names)
    for name in ("py.typed", "training/recipes/lit.yaml", "hub/templates/sections.md"):
        assert f"hf_encoders/{name}" in names


def test_it_converts_verifies_and_loads(installed):
    run(installed, "hf-encoders", "convert", SMALL_CHECKPOINT, "--output", "encoder")
    assert "verified: embeddings" in run(installed, "hf-encoders", "verify", "encoder", "--against", SMALL_CHECKPOINT)
    np.save(installed / "work" / "depth.npy", np.random.default_rng(0).random((40, 40)))
    assert run(installed, "python", "-c", LOAD, installed, "depth.npy").strip() == "[1, 768]"


def test_it_trains_under_a_launcher(installed):
    launch = ["-m", "accelerate.commands.launch", "-m", "hf_encoders.training.pretrain"]
    run(installed, "python", *launch, *TRAINING, "--output_dir", "trained")
    assert (installed / "work" / "trained" / "model.safetensors").is_file()


def test_a_recipe_whose_data_lies_in_a_clone_says_so(installed):
    done = start(installed, "hf-encoders", "train", "sample")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "samples/rooms: lies in a clone of hf_encoders, and this is none; give --dataset" in done.stderr
