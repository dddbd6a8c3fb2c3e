"""`hf-encoders embed` by Ray beside the local engine: rows a second, and what it takes to start.

    python benchmarks/bench_ray.py [--rows 8000] [--workers 1 2]

The maps of samples/objects, repeated, by samples/multimodal-rooms. A run over few rows stands for the start; the rate
is that of the other rows of a longer run. The bytes of the shards are compared.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from datasets import Dataset, concatenate_datasets
from measuring import machine

SHARD_ROWS = 200


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    print(machine())
    print("\n| engine | rows a second | start, s | bytes as the local engine's |\n|---|---|---|---|")
    engines: dict[str, list[str]] = {"local": []}
    for count in args.workers:
        engines[f"ray, workers: {count}"] = ["--engine", "ray", "--workers", str(count)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many = (write(folder / f"{rows}.parquet", rows) for rows in (SHARD_ROWS, args.rows))
        for number, (engine, options) in enumerate(engines.items()):
            start = embed(few, folder / f"few-{number}", options)
            seconds = embed(many, folder / str(number), options)
            rate = (args.rows - SHARD_ROWS) / (seconds - start)
            same = contents(folder / str(number)) == contents(folder / "0")
            print(f"| {engine} | {rate:.0f} | {start:.0f} | {'yes' if same else 'no'} |", flush=True)


def write(path: Path, rows: int) -> Path:
    """So many maps."""
    scenes = Dataset.from_parquet("samples/objects/test.parquet").select_columns(["depth", "noun"])
    repeated = concatenate_datasets([scenes] * -(-rows // len(scenes)))
    repeated.select(range(rows)).to_parquet(path, batch_size=100)
    return path


def embed(source: Path, output: Path, options: list[str]) -> float:
    """Run the command; what it says that it took, in seconds."""
    words = ["samples/multimodal-rooms", source, "--output", output, "--modality", "depth"]
    command = [sys.executable, "-m", "hf_encoders.embed", *map(str, words), "--shard-rows", str(SHARD_ROWS), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(re.findall(r"([\d.]+) s$", done.stdout.strip())[0])


def contents(output: Path) -> list[bytes]:
    """The bytes of all shards."""
    return [file.read_bytes() for file in sorted((output / "data").iterdir())]


if __name__ == "__main__":
    main()
