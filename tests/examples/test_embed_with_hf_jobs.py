"""The script for HF Jobs: it runs as it is printed, and its header names what it needs."""

import runpy
import shlex
import subprocess
import sys
import tomllib

import pytest
from huggingface_hub import HfApi

from tests.conftest import ROOT
from tests.helpers.embedding_files import manifest_of

ROWS = 200
SCRIPT = ROOT / "examples" / "embed_with_hf_jobs.py"


@pytest.mark.slow
def test_the_line_of_this_machine_embeds_the_samples(tmp_path):
    pytest.importorskip("ray")
    (line,) = [line.strip() for line in SCRIPT.read_text().splitlines() if line.strip().startswith("python examples/")]
    words = [str(tmp_path / word) if word == "embedded" else word for word in shlex.split(line)]
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{ROWS} rows → {tmp_path / 'embedded'}: 1 shard, embeddings [{ROWS}, 256] float32")
    assert manifest_of(tmp_path / "embedded")["rows"] == ROWS


def test_the_header_names_the_package():
    lines = SCRIPT.read_text().splitlines()
    header = lines[lines.index("# /// script") + 1 : lines.index("# ///")]
    found = tomllib.loads("\n".join(line.removeprefix("# ") for line in header))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found == {"requires-python": project["requires-python"], "dependencies": [f"{project['name']}[ray]"]}


def test_the_data_set_on_the_hub_is_made_private(monkeypatch):
    made, run = [], []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, **options: made.append((name, options)))
    monkeypatch.setattr(subprocess, "run", lambda words: run.append(words) or subprocess.CompletedProcess(words, 3))
    monkeypatch.setattr(
        sys, "argv", [str(SCRIPT), "model", "maps", "hf://datasets/you/made/part", "--modality", "depth"]
    )
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert end.value.code == 3
    assert made == [("you/made", {"repo_type": "dataset", "private": True, "exist_ok": True})]
    assert run[0][3:] == "model maps --output hf://datasets/you/made/part --engine ray --modality depth".split()
