"""What changes from epoch to epoch in the depth training script."""

import pytest
import torch

from hf_encoders.training.checkpoints import Progress
from hf_encoders.training.depth.arguments import DepthRunArguments
from hf_encoders.training.depth.schedule import epoch_schedule
from hf_encoders.training.epochs import is_stale


def rates(name, epochs, **options):
    """The learning rate of each epoch, of a network whose validation loss does not improve."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = epoch_schedule(optimizer, DepthRunArguments(lr_schedule=name, epochs=epochs, **options))
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(*([1.0] if name == "plateau" else []))
    return seen


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("constant", {}, [1, 1, 1, 1]),
        ("step", {"schedule_epochs": 2}, [1, 1, 0.1, 0.1]),
        ("cosine", {}, [1, 0.853553, 0.5, 0.146447]),
        ("warm_restarts", {"schedule_epochs": 2}, [1, 0.5, 1, 0.5]),
        ("plateau", {"schedule_epochs": 1, "schedule_factor": 0.5}, [1, 1, 1, 0.5]),
    ],
)
def test_schedules(name, options, expected):
    assert rates(name, 4, **options) == pytest.approx(expected, rel=1e-4)


def test_the_legacy_schedule_is_the_default():
    seen = rates(DepthRunArguments().lr_schedule, 41)
    assert seen[19] == 1 and seen[20] == pytest.approx(0.1) and seen[40] == pytest.approx(0.01)


def test_early_stopping_counts_epochs_without_improvement():
    progress = Progress(epoch=5, best_epoch=3)
    assert is_stale(progress, 2) and not is_stale(progress, 3) and not is_stale(progress, 0)
