"""Retrieval metrics of 20,000 x 20,000 embeddings, beside the full matrix of similarities.

    python benchmarks/bench_evaluation.py
    python benchmarks/bench_evaluation.py --rows 100000 --chunked-only

Measures wall time and peak memory in fresh processes, on one thread. The full matrix counts, both ways, the items that
are more similar than the right one: without captions, ties or ids, it is the least that there is to do.
"""

import argparse

from measuring import machine, measure

# Pairs row by row in an order of their own, so that ids have work to do. Each prints its seconds without the imports.
DATA = """
import sys, time, torch
import hf_encoders.evaluation
torch.set_num_threads(1)
torch.manual_seed(0)
rows, dimensions = int(sys.argv[1]), int(sys.argv[2])
texts = torch.nn.functional.normalize(torch.randn(rows, dimensions), dim=-1)
images = torch.nn.functional.normalize(texts + 0.15 * torch.randn(rows, dimensions), dim=-1)
order = torch.randperm(rows)
start = time.perf_counter()
"""
NOTHING = f"""{DATA}
print(0)
"""
CHUNKED = f"""{DATA}
metrics = hf_encoders.evaluation.retrieval_metrics(texts, images[order], second_ids=order)
print(time.perf_counter() - start)
"""
FULL = f"""{DATA}
similarities = texts @ images.T
right = similarities.diagonal()
ranks = (similarities > right[:, None]).sum(1), (similarities > right).sum(0)
recalls = [(rank < k).float().mean().item() for rank in ranks for k in (1, 5, 10)]
print(time.perf_counter() - start)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chunked-only", action="store_true", help="where the full matrix has no room")
    args = parser.parse_args()

    codes = {"embeddings alone": NOTHING, "full matrix": FULL, "retrieval_metrics": CHUNKED}
    if args.chunked_only:
        del codes["full matrix"]
    print(f"{machine()}; one thread; {args.rows} x {args.rows} x {args.dimensions}, {args.repeats} fresh processes")
    print("\n| | seconds | peak MiB | MiB over the embeddings |\n|---|---|---|---|")
    baseline = 0.0
    for name, code in codes.items():
        result = measure(["-c", code, str(args.rows), str(args.dimensions)], args.repeats)
        baseline = baseline or result.peak_mib
        print(f"| {name} | {result.printed:.2f} | {result.peak_mib:.0f} | {result.peak_mib - baseline:.0f} |")


if __name__ == "__main__":
    main()
