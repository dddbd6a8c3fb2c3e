"""Two machines, as two launchers on this one: the result of one machine; one of them lost; no folder in common."""

import json
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.helpers.training_runs import (
    ENVIRONMENT,
    RECIPE,
    assert_equal_but_for_rounding,
    without_biases_before_norms,
    write_recipe,
)

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "one_machine.py"
# 100 rows, and 20 in a step.
OPTIONS = {"batch_size": 10, "epochs": 1, "checkpoint_steps": 1, "keep_last": 0}
LOOPBACK = ENVIRONMENT | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
MACHINES = (0, 1)


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return str(place.getsockname()[1])


def torchrun(machine, port):
    return ["-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(machine), "--nproc_per_node", "1",
            "--master_addr", "127.0.0.1", "--master_port", port]  # fmt: skip


def accelerate(machine, port):
    config = ROOT / "training" / "configs" / "multi_node.yaml"
    return ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2",
            "--machine_rank", str(machine), "--main_process_ip", "127.0.0.1", "--main_process_port", port,
            "--mixed_precision", "no"]  # fmt: skip


def on_two_machines(launcher, recipe, outputs, *words, **environment):
    """The exit status and what was said of each machine's command; one that is stopped gets a SIGKILL at last."""
    port, running, results = free_port(), [], []
    for machine, output in zip(MACHINES, outputs, strict=True):
        command = [*launcher(machine, port), str(SCRIPT), str(recipe), "--output_dir", str(output), *words]
        with (recipe.parent / f"said{machine}.txt").open("w") as said:
            settings = {"env": LOOPBACK | environment, "stdout": said, "stderr": subprocess.STDOUT}
            running.append(psutil.Popen([sys.executable, *command], **settings))
    try:
        for machine, process in zip(MACHINES, running, strict=True):
            if process.poll() is None and process.status() == psutil.STATUS_STOPPED:
                kill(process)
            status = process.wait(timeout=300)
            results.append((status, (recipe.parent / f"said{machine}.txt").read_text()))
    finally:
        for process in running:
            kill(process)
    return results


def kill(process):
    """A launcher and its processes."""
    with suppress(psutil.NoSuchProcess):
        for child in [*process.children(recursive=True), process]:
            child.kill()


def assert_same_runs(one, other):
    for file in ("model.safetensors", "checkpoints/checkpoint-5/model.safetensors"):
        torch.testing.assert_close(load_file(one / file), load_file(other / file), rtol=0, atol=0)
    first, second = (
        torch.load(run / "checkpoints" / "checkpoint-5" / "optimizer.bin")["state"] for run in (one, other)
    )
    for key, state in first.items():
        assert all(torch.equal(value, second[key][name]) for name, value in state.items())


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("machines"), **OPTIONS)


@pytest.fixture(scope="module")
def one(recipe):
    """A run of one machine with two processes."""
    words = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port(), str(SCRIPT)]
    words += [str(recipe), "--output_dir", str(recipe.parent / "one")]
    done = subprocess.run([sys.executable, *words], env=LOOPBACK, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return recipe.parent / "one"


def test_the_result_is_that_of_one_machine(recipe, one, tmp_path):
    """Launched as the configuration for several machines says."""
    results = on_two_machines(accelerate, recipe, [tmp_path / "two"] * 2)
    assert [status for status, _ in results] == [0, 0], results
    assert_same_runs(one, tmp_path / "two")


def test_one_that_is_lost_ends_the_other_in_a_line_and_the_commands_go_on(recipe, one, tmp_path):
    outputs = [tmp_path / "two"] * 2
    (status, said), (lost, _) = on_two_machines(torchrun, recipe, outputs, LOST_AFTER="3", LOST_BY="SIGKILL")
    assert lost == -signal.SIGKILL and status == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: after step 3: another process of this run is lost: ")
    assert f"--output_dir {tmp_path / 'two'} --resume_from_checkpoint latest" in line
    assert "exitcode  : 2" in said  # of our command; the launcher has its own
    progress = json.loads((tmp_path / "two" / "checkpoints" / "checkpoint-3" / "progress.json").read_text())
    assert progress["step"] == 3

    results = on_two_machines(torchrun, recipe, outputs, "--resume_from_checkpoint", "latest")
    assert [status for status, _ in results] == [0, 0], results
    assert_same_runs(one, tmp_path / "two")


def test_what_is_left_goes_on_alone(recipe, one, tmp_path):
    """Under its launcher too, which makes one process one of many."""
    words = ["-m", "torch.distributed.run", "--nproc_per_node", "1", "--master_port", free_port(), str(SCRIPT)]
    words += [str(recipe), "--output_dir", str(tmp_path / "alone"), "--resume_from_checkpoint"]
    words += [str(one / "checkpoints" / "checkpoint-2")]
    done = subprocess.run([sys.executable, *words], env=LOOPBACK, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "goes on with 1 process instead of 2: 20 rows per process and step instead of 10" in done.stdout
    states = [load_file(output / "model.safetensors") for output in (tmp_path / "alone", one)]
    assert_equal_but_for_rounding(*map(without_biases_before_norms, states), RECIPE["learning_rate"])


def test_one_that_no_longer_answers_is_lost_when_the_time_for_it_is_over(recipe, tmp_path):
    """As where the network is gone; ten minutes are five seconds here."""
    outputs = [tmp_path / "two"] * 2
    (status, said), _ = on_two_machines(torchrun, recipe, outputs, LOST_AFTER="2", LOST_BY="SIGSTOP")
    assert status == 1 and "error: after step 2: another process of this run is lost: " in said


def test_a_machine_that_does_not_see_the_output_is_told_of_at_the_beginning(recipe, tmp_path):
    results = on_two_machines(torchrun, recipe, [tmp_path / "here", tmp_path / "there"])
    for status, said in results:
        assert status == 1
        assert f"{socket.gethostname()} does not see what the first process writes there" in said
        assert "give an --output_dir that all machines share" in said
    assert not list((tmp_path / "here").rglob("checkpoint-*"))
