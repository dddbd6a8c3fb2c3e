"""What search costs in memory, from a mapped file, and in a Lance table without and with an index.

    python benchmarks/bench_lance.py
    python benchmarks/bench_lance.py --quick

Random vectors in clusters. Each way is built by one process and searched by another, which opens what was written. Its
memory is what it holds by itself beyond an opened library: pages of mapped files, which the system takes back when it
needs them, are not in it. Times are medians of queries one after the other.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from clustered import Array, clusters, overlap
from datasets import Features, List, Value
from measuring import machine

from hf_encoders.embed.arrow import fixed_size_lists
from hf_encoders.embed.folder import EMBEDDING, ID, Plan
from hf_encoders.embed.lance_table import need_lance, new_manifest, stored_rows, table_schema
from hf_encoders.search import EmbeddingIndex
from hf_encoders.search.lance_index import LanceIndex

K, LABELS, ROWS_PER_COMMIT = 10, 10, 10_000
# Way → index_type and precision of an index in a mapped file; or the kind of Lance's index, None for none.
MAPPED: dict[str, dict[str, Any]] = {
    "exact, mapped": {},
    "FAISS hnsw": {"index_type": "hnsw"},
    "FAISS ivf": {"index_type": "ivf"},
    "FAISS ivf, int8": {"index_type": "ivf", "precision": "int8"},
}
LANCE: dict[str, Any] = {"Lance": None, "Lance IVF_PQ": "IVF_PQ", "Lance IVF_HNSW_SQ": "IVF_HNSW_SQ"}


@dataclass(frozen=True)
class Searched:
    """What a search costs.

    Args:
        single: seconds per query, one after the other.
        filtered: the same among the rows of one label in ten.
        together: seconds per query, of all at a time.
        recall: the share of what exact search finds among ten.
        memory: bytes that the process holds by itself.
    """

    single: float
    filtered: float
    together: float
    recall: float
    memory: int


def build(way: str, rows: Array, folder: Path) -> None:
    """Write what one way searches."""
    labels = [{"label": str(number % LABELS)} for number in range(len(rows))]
    if way in MAPPED:
        EmbeddingIndex(rows, labels, **MAPPED[way]).save(folder)
        return
    write_table(rows, labels, folder)
    if LANCE[way]:
        EmbeddingIndex.from_lance(folder).build_index(LANCE[way])


def write_table(rows: Array, labels: list[dict[str, str]], place: Path) -> None:
    """A table as `hf-encoders embed` writes it."""
    plan: Plan = {
        "format": 1,
        "model": {"name_or_path": "random"},
        "dataset": {"source": "random"},
        "modality": "image",
        "column": "image",
        "id_column": None,
        "columns": ["label"],
        "dtype": "float32",
        "dimensions": rows.shape[1],
        "shard_rows": ROWS_PER_COMMIT,
        "options": {},
    }
    embedding = List(Value("float32"), length=rows.shape[1])
    features = Features({ID: Value("int64"), "label": Value("string"), EMBEDDING: embedding})
    schema = table_schema(features, new_manifest(plan, len(rows), random="0"))
    table = need_lance(place).write_dataset(schema.empty_table(), str(place), enable_stable_row_ids=True)
    for start in range(0, len(rows), ROWS_PER_COMMIT):
        numbers = np.arange(start, min(start + ROWS_PER_COMMIT, len(rows)))
        names = [labels[number]["label"] for number in numbers]
        arrays = [pa.array(numbers), pa.array(names), fixed_size_lists(rows[numbers])]
        block = pa.Table.from_arrays(arrays, names=[ID, "label", EMBEDDING])
        table.insert(stored_rows(block, features, pa.array(numbers), schema))


def search(way: str, queries: Array, expected: list[list[int]], folder: Path) -> Searched:
    """Open what `build` wrote, and search it."""
    before = own_memory()
    index = EmbeddingIndex.load(folder) if way in MAPPED else EmbeddingIndex.from_lance(folder)
    positions(index, queries[:1])
    single = median_seconds(lambda query: positions(index, query), queries)
    memory = own_memory() - before
    filtered = median_seconds(lambda query: positions(index, query, where={"label": "3"}), queries)
    start = time.perf_counter()
    found = positions(index, queries)
    together = (time.perf_counter() - start) / len(queries)
    return Searched(single, filtered, together, overlap(found, expected), max(memory, 0))


def positions(index: EmbeddingIndex | LanceIndex, queries: Array, **options: Any) -> list[list[int]]:
    """The numbers of the nearest rows of each query [Q, D]."""
    found: Any = index.search(queries, K, "embedding", **options)
    return [[hit.index for hit in hits] for hits in found]


def median_seconds(run: Callable[[Array], object], queries: Array) -> float:
    """Of queries one after the other."""
    seconds = []
    for query in queries:
        start = time.perf_counter()
        run(query[None])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def own_memory() -> int:
    """Bytes of this process that are no file's."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def size_of(folder: Path) -> int:
    """Bytes on disk."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def print_table(figures: dict[str, tuple[float, Searched, int]]) -> None:
    """A line per way."""
    columns = (
        "one query, ms",
        "with where=, ms",
        "each of all together, ms",
        "recall@10",
        "own memory, MB",
        "on disk, MB",
        "built, s",
    )
    print(f"\n| | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    for way, (built, cost, size) in figures.items():
        times = [f"{1000 * seconds:.1f}" for seconds in (cost.single, cost.filtered, cost.together)]
        cells = [way, *times, f"{cost.recall:.3f}", f"{cost.memory / 1e6:.0f}", f"{size / 1e6:.0f}", f"{built:.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def in_own_process(step: str, way: str, place: Path) -> Any:
    """Run one step of this script, which prints JSON."""
    command = [sys.executable, __file__, "--step", step, way, str(place)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_step(step: str, way: str, place: Path) -> None:
    """Build or search, in the folder of the vectors."""
    folder = folder_of(way, place)
    if step == "build":
        rows = np.load(place / "rows.npy")
        start = time.perf_counter()
        build(way, rows, folder)
        print(json.dumps(time.perf_counter() - start))
    else:
        expected = json.loads((place / "expected.json").read_text())
        print(json.dumps(asdict(search(way, np.load(place / "queries.npy"), expected, folder))))


def folder_of(way: str, place: Path) -> Path:
    """Where a way has its files."""
    return place / f"{way}.lance" if way in LANCE else place / way


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="5,000 rows and 10 queries")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        step, way, place = args.step
        run_step(step, way, Path(place))
        return
    count, asked = (5_000, 10) if args.quick else (args.rows, args.queries)
    print(machine())
    print(f"{count} vectors of {args.dimensions} dimensions, {asked} queries")
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows, queries = clusters(count, asked, args.dimensions)
        np.save(place / "rows.npy", rows)
        np.save(place / "queries.npy", queries)
        (place / "expected.json").write_text(json.dumps(positions(EmbeddingIndex(rows), queries)))
        for way in [*MAPPED, *LANCE]:
            built = in_own_process("build", way, place)
            cost = Searched(**in_own_process("search", way, place))
            figures[way] = built, cost, size_of(folder_of(way, place))
            print(f"{way}: {cost.single:.3f} s", file=sys.stderr, flush=True)
    print_table(figures)


if __name__ == "__main__":
    main()
