"""What every command shares: how it warns, and how it ends when it is asked to stop."""

import signal
import subprocess
import sys
import warnings

import pytest

from hf_encoders.command_line import Stopped, run
from tests.conftest import SAMPLES
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.stop_points import run_until

WARNING = """
import warnings
from hf_encoders.command_line import run
def command():
    warnings.warn("two\\n lines, and hf_aaaaaaaaaaaaaaaaaaaaaaaa")
    warnings.warn("for developers", FutureWarning)
    warnings.warn("for developers", DeprecationWarning)
run(command)
"""


def errors_of(*words):
    return subprocess.run([sys.executable, *words, "-c", WARNING], capture_output=True, text=True).stderr


def test_a_warning_takes_one_line_without_code_and_those_for_developers_none():
    assert errors_of() == "warning: two lines, and hf_***\n"


def test_what_a_person_asked_python_for_decides():
    assert errors_of("-Wignore") == ""
    assert "warning: for developers" in errors_of("-Walways::FutureWarning")


def test_the_warnings_of_a_program_that_runs_a_command_stay_as_they_are():
    before = list(warnings.filters), warnings.formatwarning
    run(lambda: None)
    assert (warnings.filters, warnings.formatwarning) == before


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "hf_encoders_command.py"
    path.write_text("from hf_encoders.commands.main import main\nmain()\n")
    tiny_model().save_pretrained(tmp_path / "model")
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, -signal.SIGTERM], ids=["it", "its group"])
def test_embedding_that_is_asked_to_stop_says_how_to_go_on(number, script, tmp_path):
    words = ["embed", tmp_path / "model", SAMPLES / "maps", "--modality", "depth", "--output", tmp_path / "out"]
    words += ["--shard-rows", 1]
    status, out, error = run_until("os.rename", "records/0000001-00000.json", script, *words, number=number)
    assert (status, out) == (143, ""), error
    assert error == f"stopped; the same command goes on in {tmp_path / 'out'}\n"
    assert subprocess.run([sys.executable, script, *map(str, words)], capture_output=True).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, -signal.SIGTERM], ids=["it", "its group"])
def test_an_evaluation_that_is_asked_to_stop_says_so(number, script, tmp_path):
    words = [
        "evaluate",
        tmp_path / "model",
        SAMPLES / "rooms",
        "--modalities",
        "image",
        "depth",
        "--output",
        tmp_path / "report.json",
    ]
    status, out, error = run_until("open", "test.parquet", script, *words, number=number)
    assert (status, out) == (143, "") and error == "stopped; nothing was written\n", error
    assert not (tmp_path / "report.json").exists()


def test_a_program_that_runs_a_command_keeps_its_handler(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    run(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before

    def stop():
        raise Stopped

    with pytest.raises(SystemExit) as ended:
        run(stop)
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) is before


def test_one_of_several_processes_ends_at_once(monkeypatch):
    """It may be waiting for the others, and would never come to raise anything."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    seen = []
    run(lambda: seen.append(signal.getsignal(signal.SIGTERM)))
    assert seen == [signal.getsignal(signal.SIGTERM)]
