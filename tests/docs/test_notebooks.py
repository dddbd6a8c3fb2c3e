"""The notebooks run, and show what they print."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.printed_pages import missing_lines

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
nbformat = pytest.importorskip("nbformat", reason="pip install 'hf-encoders[docs]'")


def read(path):
    return nbformat.read(path, as_version=4)


def printed_by(cell):
    """What a cell printed, and its last value, as text."""
    outputs = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in cell.get("outputs", ())]
    return "\n".join(outputs)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_what_colab_needs(path):
    first = code_cells(read(path))[0].source
    assert "if clone is None" in first and "git clone" in first and "%pip install" in first


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_and_small(path):
    cells = code_cells(read(path))
    assert path.stat().st_size < 100_000
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    assert any(printed_by(cell) for cell in cells) and all(cell.execution_count for cell in cells)
    assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|work|content)/", path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_shows(path, tmp_path, monkeypatch):
    client = pytest.importorskip("nbclient")
    program = tmp_path / "bin" / "hf-encoders"  # that of this clone, whatever is installed
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hf_encoders.commands.main "$@"\n')
    program.chmod(0o755)
    for name, value in {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    shown, ran = read(path), read(shutil.copy(path, tmp_path))
    client.NotebookClient(ran, timeout=None, resources={"metadata": {"path": str(path.parent)}}).execute()
    for before, after in zip(code_cells(shown), code_cells(ran), strict=True):
        lines = [line for line in printed_by(before).splitlines() if is_steady(line)]
        assert not missing_lines("\n".join(lines), printed_by(after)), before.source


def is_steady(line):
    """Whether a line says the same on every machine: no progress, and no path of this run."""
    return not any(part in line for part in ("\r", "%|", " s", "step ", "epoch ", "bytes", "bf16"))


def test_the_data_of_the_notebooks_is_in_the_clone():
    assert NOTEBOOKS and all(Path(ROOT / "samples" / name).exists() for name in ("photos", "maps", "rooms", "objects"))
