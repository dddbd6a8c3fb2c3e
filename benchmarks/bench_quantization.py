"""What smaller embeddings cost in recall, and what they save in bytes and seconds.

    python benchmarks/bench_quantization.py
    python benchmarks/bench_quantization.py --rows 10000 --repeats 1

The first table is of the bundled model and scenes: captions among the images and depth maps of rooms/test, and depth
maps of objects/test among those of objects/train. The second is of random clusters, beside sentence-transformers'
search with FAISS. Each index was saved and loaded, so that its file is mapped; memory is that of the index as built.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from clustered import CLUSTERS, Array, clusters, overlap
from datasets import Dataset
from measuring import machine
from sentence_transformers.util.quantization import quantize_embeddings, semantic_search_faiss
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the model with AutoModel
from hf_encoders.search.index import EmbeddingIndex, SearchResult
from hf_encoders.search.quantizer import value_ranges

SAMPLES = Path(__file__).parent.parent / "samples"
SPLITS = ("rooms", "test"), ("objects", "test"), ("objects", "train")
# Without more candidates than are wanted, rescoring only sorts them.
KINDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16": {"precision": "float16"},
    "int8": {"precision": "int8"},
    "binary": {"precision": "binary", "rescore_multiplier": 1},
    "binary, rescored x4": {"precision": "binary", "rescore_multiplier": 4},
    "binary, rescored x16": {"precision": "binary", "rescore_multiplier": 16},
}
APPROXIMATE: dict[str, dict[str, Any]] = {
    "hnsw, float32": {"index_type": "hnsw"},
    "hnsw, int8": {"index_type": "hnsw", "precision": "int8"},
    "ivf, float32": {"index_type": "ivf"},
    "ivf, int8": {"index_type": "ivf", "precision": "int8"},
    "ivf, binary, rescored x4": {"index_type": "ivf", "precision": "binary", "rescore_multiplier": 4},
    "ivf, binary, rescored x16": {"index_type": "ivf", "precision": "binary", "rescore_multiplier": 16},
}
DIMENSIONS = (256, 128, 64)
K = 10


def positions(index: EmbeddingIndex, queries: Array, k: int) -> list[list[int]]:
    """The positions of the k nearest rows of each query [Q, D]."""
    found = cast(list[list[SearchResult]], index.search(queries, k, "embedding"))
    return [[hit.index for hit in hits] for hits in found]


@dataclass(frozen=True)
class Task:
    """Queries, and what they search; a hit is right if its label is the query's."""

    name: str
    queries: Array
    rows: Array
    query_labels: list[Any]
    row_labels: list[Any]

    def search(self, index: EmbeddingIndex, k: int) -> list[list[int]]:
        """The positions of the k nearest rows of each query."""
        return positions(index, self.queries, k)

    def recall(self, index: EmbeddingIndex, k: int) -> float:
        """How often one of the k nearest is right."""
        found = self.search(index, k)
        pairs = zip(self.query_labels, found, strict=True)
        return statistics.mean(label in [self.row_labels[hit] for hit in hits] for label, hits in pairs)


def bundled_tasks() -> list[Task]:
    """Embed the bundled scenes."""
    model = AutoModel.from_pretrained(SAMPLES / "multimodal-rooms")
    rooms, objects, known = (Dataset.from_parquet(str(SAMPLES / name / f"{split}.parquet")) for name, split in SPLITS)
    texts = model.encode_text(rooms["caption"], convert_to="numpy")
    images = model.encode_image(rooms["image"], convert_to="numpy")
    depths = model.encode_depth(rooms["depth"], convert_to="numpy")
    ids = list(range(len(rooms)))
    return [
        Task("text → image", texts, images, ids, ids),
        Task("text → depth", texts, depths, ids, ids),
        Task(
            "depth → depth, noun",
            model.encode_depth(objects["depth"], convert_to="numpy"),
            model.encode_depth(known["depth"], convert_to="numpy"),
            list(objects["noun"]),
            list(known["noun"]),
        ),
    ]


def loaded(index: EmbeddingIndex) -> tuple[EmbeddingIndex, int]:
    """The index as it is after saving and loading, which maps its file, and how large that is."""
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        size = sum(path.stat().st_size for path in (Path(folder) / "index").glob("embeddings.*"))
        return EmbeddingIndex.load(Path(folder) / "index"), size


def print_recall(tasks: list[Task]) -> None:
    """Each kind of vector, with each number of dimensions, in every task."""
    exact = [EmbeddingIndex(task.rows) for task in tasks]
    expected = [task.search(index, K) for task, index in zip(tasks, exact, strict=True)]
    base = [task.recall(index, 1) for task, index in zip(tasks, exact, strict=True)]
    columns = "".join(f" {task.name}: @1 | @10 | overlap@10 |" for task in tasks)
    print(f"\n| | dimensions | bytes in memory | in the file |{columns} points lost @1 |")
    print("|---|" + "---|" * (4 + 3 * len(tasks)))
    for dimensions in DIMENSIONS:
        for kind, options in KINDS.items():
            cells, lost = [], []
            for task, found, recall in zip(tasks, expected, base, strict=True):
                built = EmbeddingIndex(task.rows, truncate_dim=dimensions, **options)
                index, size = loaded(built)
                first = task.recall(index, 1)
                share = overlap(task.search(index, K), found)
                cells += [f"{100 * value:.1f}" for value in (first, task.recall(index, K), share)]
                lost.append(100 * (recall - first))
                memory, file = built.nbytes // len(index), size // len(index)
            row = [kind, dimensions, memory, file, *cells, f"{statistics.mean(lost):.1f}"]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


def sentence_transformers_search(rows: Array, precision: Any) -> tuple[Callable[[Array], list[list[int]]], int]:
    """Its search over its codes, rescored as ours, and what FAISS holds."""
    ranges = value_ranges(rows)
    codes = cast(np.ndarray, quantize_embeddings(rows, precision, ranges=ranges))  # of an array
    options: dict[str, Any] = {"corpus_precision": precision, "ranges": ranges, "top_k": K, "rescore_multiplier": 4}
    *_, index = semantic_search_faiss(rows[:1], codes, output_index=True, **options)

    def search(queries: Array) -> list[list[int]]:
        found = semantic_search_faiss(queries, corpus_index=index, **options)[0]
        return [[int(hit["corpus_id"]) for hit in hits] for hits in found]

    return search, codes.nbytes * (4 if precision == "uint8" else 1)  # of "uint8" its index holds float32


def print_speed(count: int, queries: int, repeats: int) -> None:
    """Queries a second, one at a time and together."""
    rows, asked = clusters(count, queries, DIMENSIONS[0])
    searches: dict[str, tuple[Callable[[Array], list[list[int]]], int]] = {}
    seconds: dict[str, float] = {}
    for kind, options in {**KINDS, **APPROXIMATE}.items():
        start = time.perf_counter()
        built = EmbeddingIndex(rows, **options)
        seconds[kind] = time.perf_counter() - start
        index, _ = loaded(built)

        def search(asked: Array, index: EmbeddingIndex = index) -> list[list[int]]:
            return positions(index, asked, K)

        searches[kind] = search, built.nbytes
    for precision in ("uint8", "ubinary"):
        kind = f"sentence-transformers, {precision}, rescored x4"
        start = time.perf_counter()
        searches[kind] = sentence_transformers_search(rows, precision)
        seconds[kind] = time.perf_counter() - start

    single: dict[str, list[float]] = {kind: [] for kind in searches}
    together: dict[str, list[float]] = {kind: [] for kind in searches}
    for _ in range(repeats):
        for kind, (run, _) in searches.items():  # in turn: the machine's speed changes
            run(asked[:1])
            start = time.perf_counter()
            for query in asked:
                run(query[None])
            middle = time.perf_counter()
            run(asked)
            single[kind].append(queries / (middle - start))
            together[kind].append(queries / (time.perf_counter() - middle))

    expected = searches["float32"][0](asked)
    print(f"\n{count} vectors of {DIMENSIONS[0]} dimensions in {CLUSTERS} clusters, {queries} queries")
    columns = (
        "MB in memory",
        "overlap@10",
        "built in s",
        "one by one, queries/s",
        "ratio",
        "together, queries/s",
        "ratio",
    )
    print(f"\n| | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, (run, size) in searches.items():
        cells = [kind, f"{size / 1e6:.1f}", f"{100 * overlap(run(asked), expected):.1f}", f"{seconds[kind]:.2f}"]
        for rates in (single, together):
            rate = statistics.median(rates[kind])
            cells += [f"{rate:.0f}", f"{rate / statistics.median(rates['float32']):.2f}"]
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=100_000, help="of the second table")
    parser.add_argument("--queries", type=int, default=50, help="of the second table")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    print(machine())
    print_recall(bundled_tasks())
    print_speed(args.rows, args.queries, args.repeats)


if __name__ == "__main__":
    main()
