"""kill -9 at any moment: no output that loads, and the next run completes as if nothing had happened."""

import signal

import pytest
from transformers import AutoModel

from tests.conftest import ROOT, SMALL_CHECKPOINT
from tests.helpers.legacy_files import convert
from tests.helpers.stop_points import run_until

SCRIPT = ROOT / "conversion" / "convert_ckpt.py"


def stopped(event, path, *options, number=signal.SIGKILL):
    """The conversion into a folder, stopped just before it does something with a path: (exit status, stderr)."""
    status, _, error = run_until(event, path, SCRIPT, SMALL_CHECKPOINT, "--output", *options, number=number)
    return status, error


# The folder is empty, has the weights, was verified, has the report, has all but the card, is to be renamed.
@pytest.mark.parametrize(
    ("event", "path", "written"),
    [
        ("open", "/preprocessor_config.json", None),
        ("open", "/model.safetensors", "model.safetensors"),
        ("open", "/conversion_report.json", "model.safetensors"),
        ("open", "/modules.json", "conversion_report.json"),
        ("os.rename", "/README.md", "modules.json"),
        ("os.rename", "/out", "README.md"),
    ],
)
def test_a_killed_conversion_leaves_no_output(event, path, written, tmp_path):
    output = tmp_path / "out"
    status, error = stopped(event, path, output)
    assert status == -signal.SIGKILL, error
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(".out.partial-") and partial.is_dir()
    assert (partial / written).is_file() if written else not any(partial.iterdir())
    # What is left is hidden, and cleared away by the next run, which needs no --overwrite.
    convert(SMALL_CHECKPOINT, "--output", output)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert AutoModel.from_pretrained(output).num_parameters() == 1_365_634
    assert (output / "conversion_report.json").is_file() and (output / "README.md").is_file()


def test_a_killed_overwrite_keeps_the_old_output(tmp_path):
    output = tmp_path / "out"
    convert(SMALL_CHECKPOINT, "--output", output)
    (output / "mine.txt").write_text("the old one")
    status, error = stopped("os.rename", "/out", output, "--overwrite")
    assert status == -signal.SIGKILL, error
    assert (output / "mine.txt").read_text() == "the old one"
    assert AutoModel.from_pretrained(output).num_parameters() == 1_365_634


def test_ctrl_c_leaves_nothing(tmp_path):
    status, error = stopped("open", "/model.safetensors", tmp_path / "out", number=signal.SIGINT)
    assert status not in (0, -signal.SIGINT) and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
