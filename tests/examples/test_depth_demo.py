"""`make demo`, run as it is."""

import re
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT


@pytest.mark.slow
def test_the_demo_converts_embeds_and_draws(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["depth_demo.py", "--output", str(tmp_path)])
    runpy.run_path(str(ROOT / "examples" / "depth_demo.py"), run_name="__main__")
    output = capfd.readouterr().out
    assert re.search(r"verified: embeddings differ by \d\.\de-\d\d relative", output)
    scores = dict(re.findall(r"^(noun|label) +([\d.]+)", output, re.MULTILINE))
    # The sample network's own figures on these maps: a shuffled or broken embedding falls to the most frequent class.
    assert abs(float(scores["noun"]) - 0.065) < 0.011
    assert abs(float(scores["label"]) - 0.205) < 0.011
    picture = np.asarray(Image.open(tmp_path / "neighbours.png").convert("RGB"))
    assert picture.shape[0] > 800
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000
    assert str(tmp_path / "neighbours.png") in output
