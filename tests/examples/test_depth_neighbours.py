"""The neighbours of a converted legacy encoder, by the example as it is."""

import re
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT


@pytest.mark.slow
def test_neighbours_are_the_legacy_networks(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["depth_neighbours.py", str(tmp_path / "neighbours.png")])
    runpy.run_path(str(ROOT / "examples" / "depth_neighbours.py"), run_name="__main__")
    output = capsys.readouterr().out
    scores = dict(re.findall(r"^(noun|label) +([\d.]+)", output, re.MULTILINE))
    # The sample network's own figures on these maps: a shuffled or broken embedding falls to the most frequent class.
    assert abs(float(scores["noun"]) - 0.065) < 0.011
    assert abs(float(scores["label"]) - 0.205) < 0.011
    picture = np.asarray(Image.open(tmp_path / "neighbours.png").convert("RGB"))
    assert picture.shape[0] > 800
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000
