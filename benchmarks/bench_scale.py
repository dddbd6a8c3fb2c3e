"""Rows a second and peak memory of `hf-encoders embed` by rows and processes, and what a billion maps would cost.

    python benchmarks/bench_scale.py
    python benchmarks/bench_scale.py --rows 1000 10000 --processes 1 --rate "openvino int8, 2 cores" 150

Each case is a fresh run of `torchrun -m hf_encoders.embed` with one thread a process: a small depth encoder (64 px,
256 dimensions) on a parquet file of synthetic 16-bit PNG maps, of which 500 differ: what it costs to read, decode,
write and keep account. Seconds are those of embedding, with the loading of the model and without imports; the peak is
of resident memory, of the process that had most. What the full-size network costs, `--rate` tells for as many machines
as are of interest, by what bench_encode.py measured on them.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from measuring import machine

DISTINCT, SIZE, DIMENSIONS, SHARD_ROWS = 500, 64, 256, 500
BILLION, FULL_DIMENSIONS = 10**9, 768
# Runs the command and writes down seconds and MiB. Arguments: where to, then those of the command.
WORKER = """
import json, os, resource, sys, time
from pathlib import Path
import torch
from hf_encoders import DepthSemanticEncoderModel, embed, embed_run, embed_sources

torch.set_num_threads(1)
start, busy = time.perf_counter(), time.process_time()
embed.main(sys.argv[2:])
seconds, busy = time.perf_counter() - start, time.process_time() - busy
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
Path(sys.argv[1], f"{os.environ['RANK']}.json").write_text(json.dumps([seconds, peak, busy]))
sys.stdout.flush()
os._exit(0)  # a thread of gloo now and then aborts the interpreter's own end
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rate", nargs=2, action="append", default=[], metavar=("MACHINE", "MAPS_A_SECOND"))
    args = parser.parse_args()

    print(f"{machine()}; one thread a process; maps of {SIZE} px, {DIMENSIONS} dimensions, shards of {SHARD_ROWS} rows")
    print("\n| rows | processes | seconds | rows a second | cores busy | MiB of the largest process |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder, "model"))
        for rows in args.rows:
            data = Path(folder, f"{rows}.parquet")
            write_maps(data, rows)
            for processes in args.processes:
                seconds, peak, busy = embed(Path(folder), data, processes)
                rate = f"{seconds:.1f} | {rows / seconds:.0f} | {busy / seconds:.1f}"
                print(f"| {rows:,} | {processes} | {rate} | {peak:.0f} |", flush=True)
    print_billion({name: float(rate) for name, rate in args.rate})


def write_model(folder: Path) -> None:
    """A small depth encoder with random weights."""
    import torch

    from hf_encoders import DepthImageProcessor, DepthSemanticEncoderConfig, DepthSemanticEncoderModel

    torch.manual_seed(0)
    config = DepthSemanticEncoderConfig(
        image_size=SIZE,
        hidden_size=DIMENSIONS,
        stem_sizes=[4, 8],
        hidden_sizes=[8, 16, 32, 64],
        depths=[1, 1, 1, 1],
        enhance_size=32,
        fusion_size=16,
        fc_sizes=[64, 64],
    )
    model = DepthSemanticEncoderModel(config)
    model.processor = DepthImageProcessor(size=SIZE)
    model.save_pretrained(folder)


def write_maps(path: Path, rows: int) -> None:
    """Planes with bumps, as 16-bit PNG in the struct that `datasets` writes."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    encoded = []
    for _ in range(DISTINCT):
        slope, other, height = generator.uniform(500, 4000, 3)
        bump = height * np.exp(-((x - generator.random()) ** 2 + (y - generator.random()) ** 2) / 0.05)
        buffer = io.BytesIO()
        PIL.Image.fromarray((1000 + slope * x + other * y + bump).astype(np.uint16)).save(buffer, "png")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    with pq.ParquetWriter(path, pa.schema({"depth": kind})) as writer:
        for start in range(0, rows, DISTINCT):
            writer.write_table(pa.table({"depth": pa.array(encoded[: rows - start], kind)}))


def embed(folder: Path, data: Path, processes: int) -> tuple[float, float, float]:
    """Embed a file in fresh processes: seconds of the slowest, MiB of the largest, processor seconds of all."""
    results = folder / f"results-{data.stem}-{processes}"
    results.mkdir()
    script = folder / "worker.py"
    script.write_text(WORKER)
    launcher = ["-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    launcher += ["--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    options = [folder / "model", data, "--output", results / "embeddings"]
    options += ["--modality", "depth", "--shard-rows", SHARD_ROWS]
    command = [sys.executable, *launcher, script, results, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    measured = [json.loads(file.read_text()) for file in results.glob("*.json")]
    seconds, peaks, busy = zip(*measured, strict=True)
    return max(seconds), max(peaks), sum(busy)


def print_billion(rates: dict[str, float]) -> None:
    """Hours, bytes and indexes of 10^9 maps through the full-size network, by its maps a second."""
    print(f"\n10^9 maps, {FULL_DIMENSIONS} dimensions")
    if rates:
        print("\n| machine | maps a second | hours of one | hours of 64 |\n|---|---|---|---|")
    for name, rate in rates.items():
        hours = BILLION / rate / 3600
        print(f"| {name} | {rate:,.0f} | {hours:,.0f} | {hours / 64:,.1f} |")
    print("\n| embeddings | bytes a row | GB |\n|---|---|---|")
    for name, bits in {"float32": 32, "float16": 16, "int8": 8, "binary": 1}.items():
        print(f"| {name} | {FULL_DIMENSIONS * bits // 8} | {FULL_DIMENSIONS * bits / 8:,.0f} |")
    print("\n| index | bytes a row | GB in memory |\n|---|---|---|")
    for name, size in indexes(FULL_DIMENSIONS).items():
        print(f"| {name} | {size} | {size:,} |")


def indexes(dimensions: int) -> dict[str, int]:
    """Bytes a row in memory while it is built.

    FAISS's cells have an id of 8 bytes per row, a graph of 32 links has 64 of 4 bytes at its base, and signs have two
    factors of 4 bytes.
    """
    return {
        "exact, float32, in memory": 4 * dimensions,
        "any index that was saved and loaded, mapped; exact: `EmbeddingIndex.from_folder` too": 0,
        "hnsw, float32": 4 * dimensions + 64 * 4,
        "hnsw, int8": dimensions + 64 * 4,
        "ivf, float32": 4 * dimensions + 8,
        "ivf, int8": dimensions + 8,
        'signs, rescored from disk: `from_folder(..., precision="binary")`': dimensions // 8 + 8,
        'the same in cells: `from_folder(..., "ivf", precision="binary")`': dimensions // 8 + 8 + 8,
    }


if __name__ == "__main__":
    main()
