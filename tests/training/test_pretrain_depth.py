"""The depth training script: it learns, resumes bit for bit after a kill, and stops in time and with a reason."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderModel
from hf_encoders.hub.card_curves import read_curves
from hf_encoders.training import pretrain_depth
from hf_encoders.training.depth.trainer import DepthTrainer
from hf_encoders.training.recipe import parse
from tests.conftest import ROOT, SAMPLES, TINY
from tests.helpers.stop_points import run_until

pytestmark = pytest.mark.usefixtures("first_run")

SCRIPT = ROOT / "training" / "pretrain_depth.py"
NETWORK = TINY | {
    "image_size": 32,
    "decoder_hidden_sizes": [8, 8, 8],
    "decoder_head_sizes": [8, 8, 8],
}  # draws 32 pixels
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture
def maps(tmp_path):
    """A folder of 26 maps: boxes on a slope, a hole in each, in metres."""
    folder = tmp_path / "maps"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(26):
        depth = np.linspace(2, 4, 40, dtype=np.float32)[:, None].repeat(40, axis=1)
        top, left = rng.integers(2, 20, 2)
        depth[top : top + 16, left : left + 16] = 1 + rng.random()
        depth[:2, :2] = 0
        np.save(folder / f"{number:02}.npy", depth)
    return folder


@pytest.fixture
def recipe(tmp_path, maps):
    path = tmp_path / "recipe.yaml"
    options = {
        "dataset": str(maps), "output_dir": str(tmp_path / "out"), "model_config": NETWORK, "validation_share": 0.2,
        "epochs": 3, "batch_size": 4, "learning_rate": 0.01, "checkpoint_steps": 2, "horizontal_flip": True,
        "crop_scale": 0.8, "num_workers": 0, "report_to": "none",
    }  # fmt: skip
    path.write_text(yaml.safe_dump(options))
    return path


def train(*arguments):
    pretrain_depth.command([str(argument) for argument in arguments])


def trainer(*arguments):
    kinds = (
        pretrain_depth.DepthDataArguments, pretrain_depth.DepthModelArguments, pretrain_depth.DepthRunArguments
    )  # fmt: skip
    words = [str(argument) for argument in arguments]
    return DepthTrainer(*parse(words, kinds, pretrain_depth.DEFAULT_RECIPE, ""))


def on_two(*arguments):
    """Run as two processes; what they wrote to the terminal."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint",
                "127.0.0.1:0", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]  # fmt: skip
    command = [*torchrun, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT)
    assert done.returncode == 0, done.stderr[:3000]
    return done.stdout


def progress_of(checkpoint):
    return json.loads((checkpoint / "progress.json").read_text())


def last_checkpoint(output):
    return max((output / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def assert_same_state(one, other):
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    states = [torch.load(folder / "optimizer.bin")["state"] for folder in (one, other)]
    for key, state in states[0].items():
        assert all(torch.equal(state[name], states[1][key][name]) for name in state)


@pytest.mark.numeric
def test_it_learns_and_leaves_a_repo(recipe, tmp_path, capsys):
    train(recipe, "--epochs", 8, "--checkpoint_steps", 0, "--report_to", "tensorboard", "--logging_steps", 5)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    losses = [float(line.split("validation")[1].split()[0]) for line in lines]
    assert len(losses) == 8 and losses[-1] < 0.8 * losses[0]

    output = tmp_path / "out"
    encoder, autoencoder = AutoModel.from_pretrained(output), DepthAutoencoderModel.from_pretrained(output)
    assert isinstance(encoder, DepthSemanticEncoderModel)
    assert encoder.processor.size.height == 32
    assert str(tmp_path) not in (output / "config.json").read_text() + (output / "README.md").read_text()
    assert yaml.safe_load((output / "training_recipe.yaml").read_text())["epochs"] == 8
    assert read_curves(output / "logs", ["loss", "validation_loss"]).keys() == {"loss", "validation_loss"}
    assert "](training_curves.png)" in (output / "README.md").read_text()
    assert (output / "training_curves.png").stat().st_size > 5000
    depth = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(encoder(depth).pooler_output, autoencoder.eval()(depth).pooler_output)


def test_a_killed_run_that_is_resumed_ends_with_the_same_weights(recipe, tmp_path):
    train(recipe, "--output_dir", tmp_path / "whole")
    # 5 steps an epoch: a checkpoint in the middle of the second.
    status, _, error = run_until("os.rename", "/checkpoint-10", SCRIPT, recipe, **ENVIRONMENT)
    assert status == -signal.SIGKILL, error
    assert last_checkpoint(tmp_path / "out").name == "checkpoint-8"
    train(recipe, "--resume_from_checkpoint", "latest")
    assert_same_state(*(last_checkpoint(tmp_path / name) for name in ("whole", "out")))
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)  # the best model too
    assert progress_of(last_checkpoint(tmp_path / "whole")) == progress_of(last_checkpoint(tmp_path / "out"))


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_resumed_from_the_middle_of_any_epoch(schedule, recipe, tmp_path):
    options = [recipe, "--lr_schedule", schedule, "--schedule_epochs", 1, "--keep_last", 9, "--epochs", 2]
    train(*options, "--output_dir", tmp_path / "whole")
    middle = tmp_path / "whole" / "checkpoints" / "checkpoint-4"
    train(*options, "--resume_from_checkpoint", middle)
    assert_same_state(*(tmp_path / name / "checkpoints" / "checkpoint-10" for name in ("whole", "out")))


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (-signal.SIGTERM, 1)], ids=["it", "all"])
def test_sigterm_leaves_a_checkpoint_and_says_how_to_go_on(number, workers, recipe, tmp_path):
    """Also where it goes to the processes that read the maps, too."""
    words = (SCRIPT, recipe, "--checkpoint_steps", 0, "--num_workers", workers)
    status, out, error = run_until("os.rename", "/checkpoint-5", *words, number=number, **ENVIRONMENT)
    assert status == 0, error
    assert progress_of(last_checkpoint(tmp_path / "out"))["step"] == 6
    assert "stopped after step 6; go on with: " in out and f"{SCRIPT} {recipe}" in out, error
    assert out.rstrip().endswith("--resume_from_checkpoint latest")


def test_two_processes(recipe, tmp_path):
    options = [recipe, "--batch_size", 2, "--epochs", 2, "--keep_last", 9]
    assert on_two(*options).count("epoch 2/2") == 1
    checkpoints = tmp_path / "out" / "checkpoints"
    assert progress_of(checkpoints / "checkpoint-10")["epoch"] == 2
    assert len(list((checkpoints / "checkpoint-10").glob("random_states_*"))) == 2
    AutoModel.from_pretrained(tmp_path / "out")

    # In the middle of an epoch, and the same on two processes.
    on_two(*options, "--output_dir", tmp_path / "again", "--resume_from_checkpoint", checkpoints / "checkpoint-4")
    assert_same_state(checkpoints / "checkpoint-10", tmp_path / "again" / "checkpoints" / "checkpoint-10")


def test_a_loss_that_is_no_number_stops_the_run(recipe, tmp_path):
    train(recipe, "--epochs", 1, "--lr_schedule", "constant")
    with pytest.raises(ValueError, match=r"step \d+: the (loss|gradient) is (nan|inf), with .*\d\d\.npy.*lower"):
        train(recipe, "--output_dir", tmp_path / "high", "--learning_rate", 1e30)
    first = tmp_path / "out" / "checkpoints" / "checkpoint-5"
    optimizer = torch.load(first / "optimizer.bin")
    optimizer["param_groups"][0]["lr"] = 1e30
    torch.save(optimizer, first / "optimizer.bin")
    with pytest.raises(ValueError, match="the checkpoints before it are kept"):
        train(recipe, "--resume_from_checkpoint", "latest", "--lr_schedule", "constant")
    kept = load_file(last_checkpoint(tmp_path / "out") / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in kept.values())


def test_maps_that_cannot_be_read_are_skipped_up_to_a_limit(recipe, maps, tmp_path, capsys):
    for number in (3, 4):
        (maps / f"{number:02}.npy").write_bytes(b"garbage")
    np.save(maps / "05.npy", np.zeros((40, 40)))
    train(recipe, "--max_bad_samples", 3, "--epochs", 2)
    assert capsys.readouterr().out.count("skipped") == 3
    bad = progress_of(last_checkpoint(tmp_path / "out"))["bad_samples"]
    assert len(bad) == 3 and any("05.npy: no valid pixel" in line for line in bad)
    with pytest.raises(ValueError, match=r"rows cannot be read, more than --max_bad_samples allows: .*0[345]\.npy"):
        train(recipe, "--max_bad_samples", 1, "--output_dir", tmp_path / "strict")


def test_a_batch_without_a_readable_map(recipe, maps):
    for number in range(18):
        (maps / f"{number:02}.npy").write_bytes(b"")
    train(recipe, "--max_bad_samples", 18, "--batch_size", 2, "--epochs", 1)


def test_early_stopping(recipe, tmp_path, capsys):
    train(recipe, "--patience", 2, "--epochs", 50, "--learning_rate", 1e-12, "--checkpoint_steps", 0)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) < 50 and ["best" in line for line in lines[-3:]] == [True, False, False]
    train(recipe, "--patience", 2, "--epochs", 50, "--resume_from_checkpoint", "latest")
    assert "\nepoch" not in capsys.readouterr().out


def test_from_a_legacy_checkpoint_and_from_a_repo(recipe, tmp_path):
    legacy = SAMPLES / "legacy" / "depth_autoencoder_small.pth"
    made = trainer(recipe, "--init_from", legacy, "--model_config", '{"mse_loss_weight": 2.0}')
    assert made.network.config.mse_loss_weight == 2 and made.network.config.hidden_sizes == [32, 64, 128, 256]
    expected = torch.load(legacy, weights_only=True)["model_state_dict"]
    assert all(torch.equal(tensor, expected[name]) for name, tensor in made.network.state_dict().items())
    made.network.encoder.save_pretrained(tmp_path / "encoder")
    again = trainer(recipe, "--init_from", tmp_path / "encoder", "--model_config", "{}").network
    assert torch.equal(again.encoder.stem[0].weight, made.network.encoder.stem[0].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "missing/folder/maps"], "missing/folder/maps: no such file or folder"),
        (["--batch_size", "100"], "fewer than a batch"),
        (["--model_config", '{"hidden_sise": 3}'], "there is no hidden_sise"),
        (["--depth_processor", '{"size": 64}'], "this network draws"),
        (["--depth_scale", "0.1"], "has no effect"),
        (["--crop_scale", "0"], "--crop_scale 0.0: must be over 0"),
        (["--depth_column", "x"], "a folder or file of pictures has no --depth_column"),
    ],
)
def test_options_that_make_no_sense(options, message, recipe):
    with pytest.raises(ValueError, match=message):
        train(recipe, *options)


def test_a_recipe_is_held_to_the_choices_too(recipe):
    recipe.write_text(recipe.read_text() + "lr_schedule: cosinus\n")
    with pytest.raises(ValueError, match="lr_schedule is one of step, cosine, .*, got 'cosinus'"):
        train(recipe)


def test_a_new_run_leaves_an_old_one_alone(recipe, tmp_path):
    train(recipe, "--epochs", 1)
    with pytest.raises(ValueError, match="holds the checkpoints of a run"):
        train(recipe, "--epochs", 1)
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    with pytest.raises(ValueError, match="holds a model"):
        train(recipe, "--epochs", 1)


def test_the_losses_are_logged(recipe, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(recipe, "--epochs", 2, "--report_to", "tensorboard", "--logging_steps", 5)
    events = EventAccumulator(str(next((tmp_path / "out" / "logs").rglob("events.*")).parent)).Reload()
    for name in ("loss", "learning_rate", "gradient_norm", "validation_loss"):
        assert [event.step for event in events.Scalars(name)] == [5, 10]


def test_each_epoch_has_its_own_order_and_half_precision_works(recipe):
    made = trainer(recipe, "--mixed_precision", "bf16", "--epochs", 1)
    orders = []
    for epoch in (0, 1, 0):
        made.loader.set_epoch(epoch)
        orders.append([index for batch in made.loader for index in batch["indices"]])
    assert orders[0] == orders[2] != orders[1] and len(set(orders[0])) == 20
    made.train()


def test_the_default_is_the_bundled_sample_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = trainer("--report_to", "none")
    assert len(made.maps) == 540 and len(made.loader) == 33
    assert made.network.encoder.num_parameters() == 1_365_634
