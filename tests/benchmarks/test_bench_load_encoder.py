"""bench_load_encoder.py: each of its tables, on small networks and few inputs."""

import pytest

from tests.conftest import ROOT

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import bench_load_encoder

        yield bench_load_encoder


def rows_of(output):
    return [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("section", ["texts", "images"])
def test_each_way_has_a_rate_and_a_ratio(section, bench, capsys):
    bench.main(["--quick", "--repeats", "1", "--inputs", "8", "2", "--sections", section])
    (_, *header), *rows = rows_of(capsys.readouterr().out)
    assert header == ["a second", f"of {bench.THEIRS}", "of CPU seconds", "goal"]
    assert [row[0] for row in rows] == [
        bench.THEIRS,
        *(f"load_encoder, {how}, {name}" for how in ("modules", "transformer") for name in bench.WAYS),
    ]
    assert all(float(cell) > 0 for row in rows for cell in row[1:4]) and rows[0][2:4] == ["1.00", "1.00"]


def test_ways_that_embed_otherwise_are_not_compared(bench, monkeypatch):
    monkeypatch.setitem(bench.WAYS, "torch", {"normalize": True})
    with pytest.raises(AssertionError, match="not close"):
        bench.main(["--quick", "--inputs", "8", "2", "--sections", "texts"])


def test_memory_is_measured_for_few_and_for_many_rows(bench, capsys):
    bench.main(["--quick", "--sections", "memory"])
    _, *rows = rows_of(capsys.readouterr().out)
    assert [row[:2] for row in rows] == [[kind, count] for kind in ("texts", "images") for count in ("20", "80")]
    assert all(float(row[2]) > 100 for row in rows) and len({row[2] for row in rows}) > 1
