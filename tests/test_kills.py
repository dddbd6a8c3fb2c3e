"""Commands that write are killed at any change of the file system, and go on to the very same files.

`make test` tries one change of each command, chosen by a number that it prints; `make test-kill` all of them, or with
`EVENTS=20` so many of each, evenly spaced.
"""

import contextlib
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT, SAMPLES
from tests.helpers.embedding_files import run_embed
from tests.helpers.kill_trial import Trial, Undisturbed
from tests.helpers.multimodal_files import write_multimodal
from tests.helpers.training_runs import RECIPE

SEED = int(os.environ.get("KILL_SEED", time.time_ns() % 10_000))
RESUME = ("--resume_from_checkpoint", "latest")
NETWORK = {
    "image_size": 32, "hidden_size": 8, "stem_sizes": [2, 4], "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1],
    "enhance_size": 8, "fusion_size": 4, "fc_sizes": [8, 8], "decoder_hidden_sizes": [8, 8, 8],
    "decoder_head_sizes": [8, 8, 8],
}  # fmt: skip


def recipe(**changes):
    """Writes a recipe of four steps in two epochs."""

    def prepare(folder):
        values = RECIPE | {"epochs": 2, "batch_size": 50, "checkpoint_steps": 1, "output_dir": "out"} | changes
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values))

    return prepare


def depth_recipe(folder):
    maps = folder / "maps"
    maps.mkdir()
    for number in range(20):
        ramp = np.linspace(1, 2 + number / 10, 40, dtype=np.float32)[:, None].repeat(40, axis=1)
        np.save(maps / f"{number:02}.npy", ramp)
    values = {
        "dataset": "maps", "batch_size": 8, "epochs": 2, "checkpoint_steps": 1,
        "num_workers": 0, "model_config": NETWORK, "report_to": "none", "output_dir": "out",
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))


def grown_maps(folder):
    """Eleven maps that were embedded; since then two came, one went, and one is another."""
    (folder / "maps").mkdir()
    for number in range(11):
        write_map(folder, number, 2 + number / 10)
    with contextlib.chdir(folder):
        run_embed(*EMBED_MAPS[3:5], *EMBED_MAPS[6:])
    for number, height in ((1.5, 3), (11, 4), (8, 5)):
        write_map(folder, number, height)
    (folder / "maps" / "02.0.npy").unlink()


def write_map(folder, number, height):
    path = folder / "maps" / f"{number:04.1f}.npy"
    np.save(path, np.linspace(1, height, 40, dtype=np.float32)[:, None].repeat(40, axis=1))
    os.utime(path, ns=(time_of := 10**18 + int(height * 10**9), time_of))  # which is written down


EMBED_MAPS = (
    "-m", "hf_encoders.commands.main", "embed", str(SAMPLES / "multimodal-rooms"), "maps", "--output", "embedded",
    "--shard-rows", "4", "--unit-scale", "1", "--modality", "depth",
)  # fmt: skip


def training(name, ranks=1, **changes):
    words = (str(ROOT / "training" / "pretrain.py"), "recipe.yaml")
    return Trial(name, words, RESUME, "out/checkpoints", recipe(**changes), ranks)


def multimodal_checkpoint(folder):
    write_multimodal(folder / "best.pt", "training")


TRIALS = [
    training("averages-validation", ema_decay=0.9, validation_split="train", train_split="train"),
    training("cached-sigmoid", loss="sigmoid", chunk_size=25, gradient_accumulation_steps=2, batch_size=25),
    training("matryoshka-streaming-workers", matryoshka_dims=[4, 8], streaming=True, max_steps=4, num_workers=1),
    training("two-ranks", ranks=2, batch_size=25, ema_decay=0.9),
    Trial(
        "depth",
        (str(ROOT / "training" / "pretrain_depth.py"), "recipe.yaml"),
        RESUME,
        "out/checkpoints",
        depth_recipe,
    ),
    Trial(
        "convert-depth",
        ("-m", "hf_encoders.commands.main", "convert", str(SAMPLES / "legacy" / "depth_autoencoder_small.pth"),
         "--output", "repo", "--no-verify"),
        ("--overwrite",),
        "repo",
    ),
    Trial(
        "convert-multimodal",
        ("-m", "hf_encoders.commands.main", "convert", "best.pt", "--output", "repo", "--allow-no-tokenizer",
         "--with-training-state", "--no-verify"),
        ("--overwrite",),
        "repo",
        multimodal_checkpoint,
    ),
    Trial(
        "embed",
        ("-m", "hf_encoders.commands.main", "embed", str(SAMPLES / "multimodal-rooms"),
         str(SAMPLES / "rooms" / "validation.parquet"), "--output", "embedded", "--shard-rows", "40"),
    ),
    Trial("embed-grown", EMBED_MAPS, prepare=grown_maps),
    Trial(
        "export",
        ("-m", "hf_encoders.commands.main", "export", str(SAMPLES / "multimodal-rooms"), "--to", "onnx", "--tower",
         "text", "--output", "repo"),
        ("--overwrite",),
        "repo",
    ),
]  # fmt: skip


@pytest.fixture(params=TRIALS, ids=lambda trial: trial.name)
def trial(request):
    return request.param


def test_a_command_that_is_killed_goes_on_to_the_same_files(trial, tmp_path):
    whole = Undisturbed(trial, tmp_path)
    number = random.Random(f"{SEED} {trial.name}").randint(1, len(whole.changes))
    assert not (wrong := whole.differs_after(number)), f"{wrong} (KILL_SEED={SEED})"


def test_a_push_that_is_killed_is_made_whole_by_the_next(hub, hub_client, tmp_path):
    """The repo on the Hub has all files of the next push; of the one that was killed all, or none."""

    def prepare(folder):
        shutil.copytree(SAMPLES / "multimodal-rooms", folder / "model")
        (folder / "temporary").mkdir()

    def files(name):
        paths = {file: Path(hub_client.hf_hub_download(name, file)) for file in hub_client.list_repo_files(name)}
        return {file: path.read_bytes().replace(name.encode(), b"NAME") for file, path in paths.items()}

    def trial(name):
        words = ("-m", "hf_encoders.commands.main", "push", "model", name)
        environment = {**hub.environment(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "TMPDIR": "temporary"}
        return Trial("push", words, prepare=prepare, environment=environment)

    whole = Undisturbed(trial("org/whole"), tmp_path)
    number = random.Random(f"{SEED} push").randint(1, len(whole.changes))
    folder = tmp_path / "killed" / "place"
    folder.mkdir(parents=True)
    prepare(folder)
    assert trial("org/killed").run(folder, number).returncode != 0
    assert trial("org/killed").run(folder).returncode == 0
    assert files("org/killed") == files("org/whole"), f"KILL_SEED={SEED}"


@pytest.mark.kill
def test_at_every_change(trial, tmp_path):
    whole = Undisturbed(trial, tmp_path)
    count = min(int(os.environ.get("EVENTS", len(whole.changes))), len(whole.changes))
    numbers = sorted({round(position) for position in np.linspace(1, len(whole.changes), count)})
    wrong = [text for number in numbers if (text := whole.differs_after(number))]
    print(f"{trial.name}: {len(numbers)} of {len(whole.changes)} changes, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)
