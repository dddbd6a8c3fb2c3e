"""Transformers' own tests of models and processors pass on ours."""

import os
import subprocess
import sys

import pytest
import transformers

from tests.conftest import ROOT
from tests.helpers.transformers_mixins import FOLDER, NOT_APPLICABLE, download

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def their_tests(tmp_path_factory):
    return download(tmp_path_factory.mktemp("transformers"))


@pytest.mark.parametrize("ours", ["processors", "image_processors", "models"])
def test_transformers_tests_pass_on(ours, their_tests):
    file = ROOT / "tests" / "helpers" / "transformers_mixins" / f"{ours}.py"
    # Theirs have marks of their own, and no limit of time.
    options = ["-q", "-n", "0", "-o", "addopts=", "-p", "no:cacheprovider", "--tb=short", "--timeout=0"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        cwd=ROOT,
        env={**os.environ, FOLDER: str(their_tests), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_what_is_left_out_is_there(their_tests):
    source = "".join(path.read_text(encoding="utf-8") for path in their_tests.glob("test_*_common.py"))
    for reasons in NOT_APPLICABLE.values():
        for name in reasons:
            assert f"def {name}(" in source


def test_without_the_source_distribution_the_test_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "none").as_uri())
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(RuntimeError, match=rf"source distribution of transformers=={transformers.__version__}"):
        download(tmp_path)
