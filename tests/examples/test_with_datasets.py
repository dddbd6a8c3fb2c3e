"""The example of datasets, run as it is."""

import re
import runpy

from tests.conftest import ROOT


def test_chairs_are_found_in_the_embedded_column(capsys):
    runpy.run_path(str(ROOT / "examples" / "with_datasets.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert len(re.findall(r"200 images embedded", output)) == 2
    assert "a column of float32 [200, 256]" in output
    by_faiss, by_index = (re.findall(r"(\D+) (0\.\d\d)", line) for line in re.findall(r"'a chair' by .*: (.*)", output))
    assert by_faiss == by_index
    assert sum("chair" in noun for noun, _ in by_faiss) >= 4  # of five
    assert output.count("256 numbers") == 2
    assert 0.1 < float(re.findall(r"mean cosine distance .*: (\S+)", output)[0]) < 0.5
