"""bench_lance.py: each way, on a few random vectors."""

import pytest

from tests.conftest import ROOT

pytest.importorskip("lance")
pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import bench_lance

        yield bench_lance


def test_each_way_is_built_searched_and_printed(bench, tmp_path, capsys):
    rows, queries = bench.clusters(600, 5, 16)
    expected = bench.positions(bench.EmbeddingIndex(rows), queries)
    figures = {}
    for way in [*bench.MAPPED, *bench.LANCE]:
        folder = bench.folder_of(way, tmp_path)
        bench.build(way, rows, folder)
        cost = bench.search(way, queries, expected, folder)
        figures[way] = 1.0, cost, bench.size_of(folder)
        assert cost.single > 0 and figures[way][2] >= rows.nbytes / 4
    assert [figures[way][1].recall for way in ("exact, mapped", "Lance")] == [1, 1]
    bench.print_table(figures)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].strip("| ") for line in lines[1:]] == [*bench.MAPPED, *bench.LANCE]
    assert all(len(line.split(" | ")) == 8 for line in lines[1:])
