"""A resumed depth run with another learning rate, another schedule or another end."""

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from hf_encoders.training import pretrain_depth
from hf_encoders.training.depth.arguments import SCHEDULES
from tests.conftest import TINY
from tests.helpers.runs import forget_runs

pytestmark = pytest.mark.usefixtures("first_run")

NETWORK = TINY | {"image_size": 32, "decoder_hidden_sizes": [8, 8, 8], "decoder_head_sizes": [8, 8, 8]}


@pytest.fixture
def train(tmp_path, capsys):
    """Runs on twelve maps, two steps per epoch, from a checkpoint of "first" if one is named; what was printed."""
    maps = tmp_path / "maps"
    maps.mkdir()
    for number in range(12):
        np.save(maps / f"{number:02}.npy", np.linspace(1, 2 + number / 10, 32, dtype=np.float32)[:, None].repeat(32, 1))

    def run(output, step=None, **changes):
        forget_runs()
        options = {
            "dataset": str(maps),
            "model_config": NETWORK,
            "validation_share": 0.3,
            "epochs": 4,
            "batch_size": 4,
            "learning_rate": 0.01,
            "num_workers": 0,
            "report_to": "none",
            "keep_last": 9,
            "checkpoint_steps": 1,
            "schedule_epochs": 1,
        }
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(options | changes))
        words = [str(recipe), "--output_dir", str(tmp_path / output)]
        if step is not None:
            words += ["--resume_from_checkpoint", str(tmp_path / "first" / "checkpoints" / f"checkpoint-{step}")]
        pretrain_depth.command(words)
        return capsys.readouterr().out

    return run


def rate(tmp_path, output, step):
    """The learning rate of the step after a checkpoint."""
    (group,) = torch.load(tmp_path / output / "checkpoints" / f"checkpoint-{step}" / "optimizer.bin")["param_groups"]
    return group["lr"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_new_learning_rate_takes_the_place_that_the_schedule_has_reached(schedule, train, tmp_path):
    if schedule == "plateau":
        train("first", lr_schedule=schedule, epochs=2, schedule_factor=0.5)
    else:
        train("first", lr_schedule=schedule, epochs=4)
        train("slow", lr_schedule=schedule, epochs=4, learning_rate=1e-4)
    before = rate(tmp_path, "first", 3)
    printed = train(
        "again", step=3, lr_schedule=schedule, learning_rate=1e-4, schedule_factor=0.5 if schedule == "plateau" else 0.1
    )
    assert "learning_rate 0.0001 (was 0.01)" in printed and f"of the next step: {before / 100:.4g}" in printed
    if schedule != "plateau":
        for step in (4, 5, 7):
            assert rate(tmp_path, "again", step) == pytest.approx(rate(tmp_path, "slow", step), rel=1e-9)


def test_a_cosine_of_more_epochs_does_not_turn_up_again(train, tmp_path):
    train("first", lr_schedule="cosine", epochs=2)
    train("whole", lr_schedule="cosine", epochs=4)
    train("again", step=4, lr_schedule="cosine", epochs=4)
    assert [rate(tmp_path, "again", step) for step in (6, 8)] == [rate(tmp_path, "whole", step) for step in (6, 8)]


def test_another_schedule_and_decay_are_obeyed(train, tmp_path):
    train("first", epochs=2)
    printed = train("again", step=2, lr_schedule="constant", weight_decay=0.5)
    assert "weight_decay 0.5 (was 1e-05), lr_schedule constant (was step)" in printed
    assert rate(tmp_path, "first", 2) == pytest.approx(0.001) and rate(tmp_path, "again", 3) == 0.01
    (group,) = torch.load(tmp_path / "again" / "checkpoints" / "checkpoint-3" / "optimizer.bin")["param_groups"]
    assert group["weight_decay"] == 0.5
    train("plateau", step=2, lr_schedule="plateau", schedule_epochs=3)
    assert rate(tmp_path, "plateau", 3) == 0.01


def test_another_share_for_validation_starts_the_epoch_again_and_forgets_the_best(train):
    train("first", epochs=2)
    printed = train("again", step=3, epochs=2, validation_share=0.2)
    assert "epoch 2 starts again, after 1 of its batches: other data, validation_share" in printed
    assert "is forgotten: other validation_share" in printed


def test_the_seed_is_kept_so_that_no_map_of_the_validation_is_trained_on(train, tmp_path):
    train("first", epochs=2)
    train("same", step=2, epochs=2)
    assert "kept from the checkpoint: seed 0 (asked for 5)" in train("again", step=2, epochs=2, seed=5)
    one, other = (
        load_file(tmp_path / name / "checkpoints" / "checkpoint-4" / "model.safetensors") for name in ("same", "again")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
