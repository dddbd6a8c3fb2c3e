"""kill -9 at any moment: no output that loads, and the next run completes as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from transformers import AutoModel

from tests.conftest import ROOT, SMALL_CHECKPOINT
from tests.helpers.legacy_files import convert

COMMAND = [sys.executable, str(ROOT / "conversion" / "convert_ckpt.py"), str(SMALL_CHECKPOINT), "--output"]
DEADLINE = 120  # seconds


def start(output, *options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, str(output), *options], stdout=subprocess.DEVNULL, env=environment)


def wait_until(condition, process):
    """Poll often: the moments that matter are short. False if the process ended first."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end
        time.sleep(0.001)
    return True


def partial_file(folder, name):
    """Whether the hidden folder of a running conversion has this file (or, without a name, exists)."""
    return lambda: any(folder.glob(f".out.partial-*/{name}" if name else ".out.partial-*"))


# Empty folder, weights, the verification between config and report, the report.
@pytest.mark.parametrize(
    ("written", "delay"),
    [(None, 0), ("model.safetensors", 0), ("model.safetensors", 0.3), ("conversion_report.json", 0)],
)  # fmt: skip
def test_a_killed_conversion_leaves_no_output(written, delay, tmp_path):
    output = tmp_path / "out"
    process = start(output)
    reached = wait_until(partial_file(tmp_path, written), process)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    if reached and killed and not output.exists():
        # What is left is hidden, and cleared away by the next run, which needs no --overwrite.
        assert all(path.name.startswith(".out.partial-") for path in tmp_path.iterdir())
        convert(SMALL_CHECKPOINT, "--output", output)
    # Either way the output is whole: the last moments before the rename can pass faster than a poll.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert AutoModel.from_pretrained(output).num_parameters() == 1_365_634
    assert (output / "conversion_report.json").is_file() and (output / "README.md").is_file()


# Says when it would rename, and waits there to be killed.
STOP_BEFORE_RENAME = """
import pathlib, runpy, sys, time
pathlib.Path.rename = lambda *paths: (print("complete", flush=True), time.sleep(600))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_kill_between_the_last_file_and_the_rename(tmp_path):
    command = [sys.executable, "-c", STOP_BEFORE_RENAME, *COMMAND[1:], str(tmp_path / "out"), "--no-verify"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "complete\n"
        process.kill()
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(".out.partial-") and (partial / "README.md").is_file()
    convert(SMALL_CHECKPOINT, "--output", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert AutoModel.from_pretrained(tmp_path / "out").num_parameters() == 1_365_634


def test_a_killed_overwrite_keeps_the_old_output(tmp_path):
    output = tmp_path / "out"
    convert(SMALL_CHECKPOINT, "--output", output)
    (output / "mine.txt").write_text("the old one")
    process = start(output, "--overwrite")
    assert wait_until(partial_file(tmp_path, "model.safetensors"), process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (output / "mine.txt").read_text() == "the old one"
    assert AutoModel.from_pretrained(output).num_parameters() == 1_365_634


def test_ctrl_c_leaves_nothing(tmp_path):
    for _ in range(3):  # on a busy machine a conversion may end before it can be interrupted
        command = [*COMMAND, str(tmp_path / "out"), "--overwrite"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert wait_until(partial_file(tmp_path, "model.safetensors"), process)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=DEADLINE)
        if process.returncode:
            break
        shutil.rmtree(tmp_path / "out")
    assert process.returncode not in (0, -signal.SIGINT) and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
