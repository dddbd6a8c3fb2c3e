"""The examples are scripts: they find `bundled`, which lies beside them, as they do when Python starts one of them."""

import pytest

from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _beside_the_examples(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
