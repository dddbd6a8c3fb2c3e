"""The example of the pipelines, run as it is."""

import re
import runpy

from tests.conftest import ROOT


def test_the_pipelines_find_the_nouns_of_objects(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("bundled.OUTPUT", tmp_path)
    runpy.run_path(str(ROOT / "examples" / "with_pipelines.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert "50 images → features [50, 256]" in output and "50 depth maps → features [50, 768]" in output
    scores = {kind: float(score) for kind, score in re.findall(r"labels, by (.+): ([\d.]+)", output)}
    # The most frequent noun would be right in one of ten.
    assert scores["images"] > 0.45 and scores["depth maps"] > 0.55
