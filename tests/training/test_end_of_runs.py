"""How runs end: with their launcher, on a full disk, beside another run; and how they go on afterwards."""

import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from hf_encoders.training import run_lock
from hf_encoders.training.run_lock import RunLock
from tests.conftest import ROOT
from tests.helpers.training_runs import ENVIRONMENT, command, run, run_until, write_recipe

STEPS = {"max_steps": 4, "checkpoint_steps": 1, "keep_last": 0}
LAUNCH = ["-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Undisturbed runs by their options, each made once."""
    made = {}

    def make(**options):
        name = repr(sorted(options.items()))
        if name not in made:
            folder = tmp_path_factory.mktemp("whole")
            run(write_recipe(folder, **options), folder / "out")
            made[name] = folder / "out"
        return made[name]

    return make


def with_action(event, path, action, recipe, output, launcher=(), **options):
    """Run with an action at a change, see `at_change`: (exit status, what was printed)."""
    words = [*launcher, "-m", "tests.helpers.at_change", event, path, action, *command(recipe, output, **options)[1:]]
    with open(output.with_suffix(".txt"), "w+") as printed:  # an orphan writes on after its launcher's end
        environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, *words], env=environment, stdout=printed, stderr=subprocess.STDOUT)
        return done.returncode, output.with_suffix(".txt")


def assert_same_weights(one, other):
    first, second = (load_file(path / "model.safetensors") for path in (one, other))
    assert first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def checkpoints(output):
    return {path.name for path in (output / "checkpoints").iterdir()} - {run_lock.NAME}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "asked to stop"])
@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}], ids=["plain", "averages"])
def test_a_run_that_ends_at_its_last_step_writes_its_model_when_it_is_resumed(number, options, whole, tmp_path):
    recipe = write_recipe(tmp_path, **STEPS, **options)
    # What follows the checkpoint of the last step is the end of the epoch: the model's configuration moves last.
    point = ("os.rename", "/checkpoint-4") if number == signal.SIGTERM else ("os.rename", "/out/config.json")
    status, printed, error = run_until(*point, recipe, tmp_path / "out", number=number)
    assert status == (0 if number == signal.SIGTERM else -number), error
    run(recipe, tmp_path / "out", resume_from_checkpoint="latest")
    assert_same_weights(whole(**STEPS, **options), tmp_path / "out")


def test_the_end_of_its_launcher_stops_a_run_with_a_checkpoint(whole, tmp_path):
    """A scheduler's SIGTERM ends `accelerate launch` of one process, which does not pass it on."""
    recipe = write_recipe(tmp_path, **STEPS | {"max_steps": 8})
    words = ("os.rename", "/checkpoint-2", "end-launcher", recipe, tmp_path / "out")
    status, printed = with_action(*words, launcher=LAUNCH)
    assert status == -signal.SIGTERM
    while "stopped after step" not in printed.read_text():
        assert "Traceback" not in printed.read_text()
        time.sleep(0.1)
    assert "accelerate launch" in printed.read_text()
    stopped = max(int(name.removeprefix("checkpoint-")) for name in checkpoints(tmp_path / "out"))
    assert stopped in (2, 3)
    run(recipe, tmp_path / "out", resume_from_checkpoint="latest")
    assert_same_weights(whole(**STEPS | {"max_steps": 8}), tmp_path / "out")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the system has no SIGUSR1")
def test_a_warning_of_the_scheduler_makes_a_checkpoint_and_the_run_goes_on(tmp_path):
    recipe = write_recipe(tmp_path, **STEPS | {"max_steps": 5, "checkpoint_steps": 2})
    status, _, error = run_until("os.rename", "/checkpoint-2", recipe, tmp_path / "out", number=signal.SIGUSR1)
    assert status == 0, error
    assert checkpoints(tmp_path / "out") == {f"checkpoint-{step}" for step in (2, 3, 4, 5)}


def test_a_full_disk_takes_one_line_and_leaves_what_was_before(whole, tmp_path):
    recipe = write_recipe(tmp_path, **STEPS)
    status, printed = with_action("os.rename", "/checkpoint-2", "small-files", recipe, tmp_path / "out")
    assert status == 2
    errors = [line for line in printed.read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "checkpoint-3: cannot be written (" in errors[0] and "MB are free there)" in errors[0]
    assert "Traceback" not in printed.read_text()
    assert checkpoints(tmp_path / "out") == {"checkpoint-1", "checkpoint-2"}
    run(recipe, tmp_path / "out", resume_from_checkpoint="latest")
    assert_same_weights(whole(**STEPS), tmp_path / "out")


HOLDER = "import sys; from hf_encoders.training.run_lock import RunLock; from pathlib import Path;"
HOLDER += "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


def test_a_folder_has_one_run_at_a_time(tmp_path):
    folder = tmp_path / "out" / "checkpoints"
    words = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"out: process {holder.pid} on .* trains here; .*another --output_dir"):
            RunLock(folder)
        holder.kill()
    RunLock(folder)
    assert str(os.getpid()) in (folder / run_lock.NAME).read_text()


def test_a_system_without_locks_trains_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "fcntl", None)
    RunLock(tmp_path)
    RunLock(tmp_path)


def test_a_second_run_in_a_folder_takes_one_line(tmp_path):
    recipe = write_recipe(tmp_path, **STEPS)
    folder = tmp_path / "out" / "checkpoints"
    words = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        holder.stdout.readline()
        done = subprocess.run(command(recipe, tmp_path / "out"), env=ENVIRONMENT, capture_output=True, text=True)
        holder.kill()
    assert done.returncode == 2 and f"process {holder.pid} on" in done.stderr and "Traceback" not in done.stderr
    assert checkpoints(tmp_path / "out") == set()


def test_a_run_that_ended_before_its_first_checkpoint_begins_again(whole, tmp_path):
    recipe = write_recipe(tmp_path, **STEPS)
    for options in ({}, {"resume_from_checkpoint": "latest"}):
        output = tmp_path / f"out{len(options)}"
        status, _, _ = run_until("os.rename", "/checkpoint-1", recipe, output)
        assert status == -signal.SIGKILL
        printed = run(recipe, output, **options)
        assert ("ended before its first checkpoint, and begins again" in printed) == bool(options)
        assert_same_weights(whole(**STEPS), output)
        assert not [name for name in checkpoints(output) if name.startswith(".")]
