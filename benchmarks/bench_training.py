"""Our trainer beside open_clip's loss in a plain loop, and beside sentence-transformers' trainer.

    python benchmarks/bench_training.py
    python benchmarks/bench_training.py --precision no --device cuda --batch 256

Needs `pip install -e '.[bench]'` and `pip install --no-deps open_clip_torch`: what the latter asks for, torchvision,
is not needed.

Every case is a fresh process and trains the text and image tower of a recipe, with the same first weights, AdamW,
gradient clipping, precision and image processor, on the bundled rows in the same order; dropout and the training of
the temperature are off, so that the first loss, printed for each case, is the same in all. Our trainer sets the
channels_last memory format for the images' convolutions by itself; the plain loop runs without and with it.

The plain losses come first, then those that cache gradients, which embed a larger batch in chunks; for BatchNorm,
sentence-transformers uses the running statistics there, as ours does. "Waiting" is the share of the time in which a
loop waits for data. Memory is resident, or on CUDA allocated on the device, of the training process without its
workers; "over the start" is without the imports and the model.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from measuring import machine

from hf_encoders.command_line import OneLineArgumentParser

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "hf_encoders" / "training" / "recipes" / "sample.yaml"
# Module → how to install it.
PACKAGES = {
    "open_clip": "pip install --no-deps open_clip_torch",
    "sentence_transformers": "pip install -e '.[bench]'",
}
# Rounding: of float32, and of bfloat16's similarities.
TOLERANCES = {"no": 1e-3, "bf16": 2e-2}
FIRST, CACHED_FIRST = "open_clip: ClipLoss, plain loop", "sentence-transformers: cached ranking loss"
OURS, OURS_CACHED = "ours", "ours, chunk_size"

Settings = Mapping[str, object]
Figures = Mapping[str, float]


def main() -> None:
    """Measure and print."""
    parser = OneLineArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--recipe", default=str(ROOT / "hf_encoders" / "training" / "recipes" / "sample.yaml"), help="whose towers"
    )
    parser.add_argument("--batch", type=int, default=60)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cached-batch", type=int, default=480)
    parser.add_argument("--cached-steps", type=int, default=5)
    parser.add_argument("--chunk", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=3, help="steps before those that are timed, at least 1")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", choices=TOLERANCES, default="bf16", help="bf16 autocast, or no (float32)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    absent = {module: how for module, how in PACKAGES.items() if importlib.util.find_spec(module) is None}
    if absent:
        parser.error(f"{' and '.join(absent)} not installed: {' && '.join(absent.values())}")
    if min(args.batch, args.steps, args.cached_batch, args.cached_steps, args.chunk, args.warmup, args.repeats) < 1:
        parser.error("sizes, steps and repeats must be at least 1")

    every = {
        "recipe": args.recipe,
        "warmup": args.warmup,
        "workers": args.workers,
        "precision": args.precision,
        "device": args.device,
        "channels_last": False,
    }
    plain = every | {"batch": args.batch, "steps": args.steps, "chunk": 0}
    cached = every | {"batch": args.cached_batch, "steps": args.cached_steps, "chunk": args.chunk}
    print(
        f"{machine()}; {args.device}, {'float32' if args.precision == 'no' else 'bf16 autocast'}; {args.workers}"
        f" workers; medians of {args.repeats} fresh processes each"
    )
    compare(
        f"Batch {args.batch}, {args.steps} steps",
        {
            FIRST: plain | {"case": "open_clip"},
            f"{FIRST}, channels_last": plain | {"case": "open_clip", "channels_last": True},
            "sentence-transformers: ranking loss": plain | {"case": "sentence_transformers"},
            OURS: plain | {"case": "ours"},
        },
        args.repeats,
        TOLERANCES[args.precision],
    )
    compare(
        f"Batch {args.cached_batch} in chunks of {args.chunk}, {args.cached_steps} steps",
        {CACHED_FIRST: cached | {"case": "sentence_transformers"}, OURS_CACHED: cached | {"case": "ours"}},
        args.repeats,
        TOLERANCES[args.precision],
    )


def compare(title: str, cases: Mapping[str, Settings], repeats: int, tolerance: float) -> None:
    """Run cases in turn and print their table, with ratios to the first; the last is ours.

    Raises:
        RuntimeError: if a case fails, or the losses of their first steps differ: they would not do the same.
    """
    runs: dict[str, list[Figures]] = {name: [] for name in cases}
    for _ in range(repeats):  # in turn, so that what else the machine does meets all
        for name, settings in cases.items():
            runs[name].append(run_case(settings))
    medians = {name: median(figures) for name, figures in runs.items()}
    first = next(iter(medians.values()))
    columns = "samples/s | ratio | peak MiB | ratio | MiB over the start | ratio | waiting | first loss | last loss"
    print(f"\n{title}\n\n| | {columns} |\n|{'---|' * 10}")
    for name, figures in medians.items():
        rate, peak, over = (
            f"{figures[key]:.{digits}f} | {figures[key] / first[key]:.2f}"
            for key, digits in (("rows_per_second", 1), ("peak_mib", 0), ("over_mib", 0))
        )
        losses = f"{figures['first_loss']:.4f} | {figures['last_loss']:.4f}"
        print(f"| {name} | {rate} | {peak} | {over} | {figures['waiting']:.1%} | {losses} |")
    *others, mine = medians.values()
    best_rate, least_peak = max(one["rows_per_second"] for one in others), min(one["peak_mib"] for one in others)
    losses_first = [figures["first_loss"] for figures in medians.values()]
    apart = max(losses_first) - min(losses_first)
    print(
        f"\nOurs beside the best of the others: {mine['rows_per_second'] / best_rate:.2f} of the samples/s,"
        f" {mine['peak_mib'] / least_peak:.2f} of the peak. First losses are at most {apart:.1e} apart.",
        flush=True,
    )
    if not apart <= tolerance:
        raise RuntimeError(f"the first losses are more than {tolerance} apart: the cases do not compute the same")


def run_case(settings: Settings) -> Figures:
    """A case in a fresh process."""
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    if settings["device"] == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""  # the trainers take a GPU that they see
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps({**settings, "output_dir": folder})
        command = [sys.executable, str(ROOT / "benchmarks" / "training_cases.py"), text]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{settings['case']} ended with status {result.returncode}:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.strip().rpartition("\n")[2])


def median(runs: Sequence[Figures]) -> dict[str, float]:
    """Of each figure."""
    figures = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    return figures | {"over_mib": figures["peak_mib"] - figures["start_mib"]}


if __name__ == "__main__":
    main()
