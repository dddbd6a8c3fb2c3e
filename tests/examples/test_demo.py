"""`make demo`, run as it is."""

import re
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT

SCENES = 200


@pytest.mark.slow
def test_the_demo_converts_proves_and_finds(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["demo.py", "--output", str(tmp_path)])
    runpy.run_path(str(ROOT / "examples" / "demo.py"), run_name="__main__")
    output = capfd.readouterr().out
    assert len(re.findall(r"^verified: .* differ by \d\.\de-\d\d relative", output, re.MULTILINE)) == 2
    assert "assumed" not in output  # the demo says all that the file does not tell
    recalls = re.findall(r"^(.+?) +([\d.]+)% +([\d.]+)%$", output, re.MULTILINE)
    names = ["words → images", "words → depth maps", "a depth map → its image", "by chance"]
    assert [name for name, _, _ in recalls] == names
    values = [[float(value) for value in row[1:]] for row in recalls]
    assert values[3] == [100 / SCENES, 500 / SCENES]
    # The sheet is right mostly: above half by images, and depth maps know no colours.
    assert values[0][0] > 50 and values[1][1] > 50 and values[2][0] > 50
    picture = np.asarray(Image.open(tmp_path / "found.png").convert("RGB"))
    assert picture.shape[0] > 2000
    assert (picture == (26, 127, 55)).all(-1).any()  # what is right has a green frame
