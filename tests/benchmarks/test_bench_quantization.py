"""bench_quantization.py: its tables, on a few random vectors."""

import numpy as np
import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import bench_quantization

        yield bench_quantization


def cells(output, kind, number=0):
    rows = [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith(f"| {kind} |")]
    return [float(cell) for cell in rows[number][1:]]


def test_recall_is_that_of_the_labels(bench, capsys):
    rows = np.random.default_rng(0).standard_normal((40, 256), np.float32)
    labels = list(range(40))
    bench.print_recall([bench.Task("itself", rows, rows, labels, labels[1:] + [0])])
    output = capsys.readouterr().out
    dimensions, memory, file, first, _, share, lost = cells(output, "float32")
    assert (dimensions, memory, first, share, lost) == (256, 1024, 0, 100, 0)
    bench.print_recall([bench.Task("itself", rows, rows, labels, labels)])
    output = capsys.readouterr().out
    assert cells(output, "float32")[3:] == [100, 100, 100, 0]
    assert cells(output, "binary", 2)[:2] == [64, 8 + 8 + 64]
    assert cells(output, "binary", 2)[5] < cells(output, "int8", 2)[5] < 100


def test_speed_has_a_row_for_each_kind(bench, capsys):
    bench.print_speed(count=2_000, queries=3, repeats=1)
    output = capsys.readouterr().out
    for kind in [*bench.KINDS, *bench.APPROXIMATE]:
        assert len(cells(output, kind)) == 7
    assert cells(output, "float32")[:2] == [2.0, 100]
    assert cells(output, "sentence-transformers, ubinary, rescored x4")[0] == 0.1
