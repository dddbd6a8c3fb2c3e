"""Where the time of the full-size depth encoder goes, for the figures of bench_encode.py.

    python benchmarks/profile_encode.py

First PyTorch in float32 by batch size, with the pages that the system had to clear for it; then the operations of the
network as OpenVINO runs it in each precision, one request at a time.
"""

import collections
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bench_encode import exported_depth_encoder
from measuring import machine
from torch.utils.flop_counter import FlopCounterMode

from hf_encoders.progress import quiet_libraries

MAPS, REPEATS, BATCH = 64, 5, 32
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "bf16"}


def main() -> None:
    """Measure and print."""
    quiet_libraries()
    print(f"{machine()}, {torch.get_num_threads()} threads; medians of {REPEATS}")
    with tempfile.TemporaryDirectory() as folder:
        model = exported_depth_encoder(Path(folder))
        maps = torch.rand(MAPS, 1, 128, 128) * 2 - 1
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(maps[:1])
        print(f"\n{counter.get_total_flops() / 1e9:.1f} GFLOP a map")
        print("\n| PyTorch float32, batch | maps a second | GFLOP/s | page faults a map | of the time in the system |")
        print("|---|---|---|---|---|")
        for size in (8, 16, 32, 64):
            print_pytorch(model, maps, size, counter.get_total_flops())
        exported = Path(folder, "exported", "openvino")
        for precision, name in {"float32": "depth", "bfloat16": "depth", "int8": "depth_int8"}.items():
            print_openvino(exported / f"{name}.xml", precision, maps[:BATCH])


def print_pytorch(model: Any, maps: torch.Tensor, size: int, flops: int) -> None:
    """A row: the network alone at one batch size."""
    seconds, faults, system = [], [], []
    for _ in range(REPEATS + 1):
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        with torch.inference_mode():
            for part in maps.split(size):
                model(part)
        seconds.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_SELF)
        faults.append((after.ru_minflt - before.ru_minflt) / len(maps))
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        system.append((after.ru_stime - before.ru_stime) / busy)
    rate = len(maps) / statistics.median(seconds[1:])
    shares = f"{statistics.median(faults[1:]):,.0f} | {statistics.median(system[1:]):.0%}"
    print(f"| {size} | {rate:.1f} | {rate * flops / 1e9:.0f} | {shares} |")


def print_openvino(path: Path, precision: str, maps: torch.Tensor) -> None:
    """A table: the share of each kind of operation, by the kernel that computes it."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": HINTS[precision], "PERF_COUNT": True}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    for _ in range(3):
        request.infer([maps.numpy()])
    times: collections.Counter[tuple[str, str]] = collections.Counter()
    for node in request.profiling_info:
        if node.status == node.Status.EXECUTED:
            times[node.node_type, node.exec_type] += node.real_time.total_seconds()
    total = times.total()
    print(f"\n| OpenVINO {precision}: operation | kernel | of {1000 * total / len(maps):.1f} ms a map |\n|---|---|---|")
    for (kind, kernel), spent in times.most_common(6):
        print(f"| {kind} | {kernel} | {spent / total:.1%} |")


if __name__ == "__main__":
    main()
