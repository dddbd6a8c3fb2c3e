"""What the example of smaller embeddings prints."""

import re
import runpy

from tests.conftest import ROOT


def test_small_embeddings(capsys):
    runpy.run_path(str(ROOT / "examples" / "small_embeddings.py"), run_name="__main__")
    output = capsys.readouterr().out
    found = re.findall(r"precision=(.*?) +(\d+) bytes each, first right ([\d.]+), overlap ([\d.]+)", output)
    assert [(kind, int(size)) for kind, size, *_ in found] == [
        ("float32", 1024),
        ("float16", 512),
        ("int8", 256),
        ("binary", 32 + 8 + 256),
        ("int8, truncate_dim=128", 128),
        ("binary, truncate_dim=128", 16 + 8 + 128),
    ]
    right, overlap = ([float(row[column]) for row in found] for column in (2, 3))
    assert min(right[:4]) > 0.8
    assert 0.6 < min(right[4:]) <= max(right[4:]) < right[0]
    assert overlap[0] == 1
    assert min(overlap[1:3]) > 0.98
    assert 1 > overlap[3] > 0.93
    assert 0.6 < overlap[5] < overlap[4] < 0.9
    off, clipped = re.search(r"120 x 256 int8, at most ([\d.]+) off\nof the later values ([\d.]+)%", output).groups()
    assert 0.0001 < float(off) < 0.1
    assert 0 < float(clipped) < 4
