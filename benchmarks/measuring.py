"""Measures Python code: wall time and peak memory of fresh processes, rates of calls in turn."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """Of the runs of one command: median seconds, largest peak of resident memory, median of the last printed line."""

    seconds: float
    peak_mib: float
    printed: float


def measure(arguments: Sequence[str], repeats: int = 3) -> Measurement:
    """Run `python ARGUMENTS` several times, each in a fresh process that prints a number at the end (or nothing)."""
    seconds, peaks, printed = [], [], []
    for _ in range(repeats):
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - start)
        if status:
            raise RuntimeError(f"python {' '.join(arguments)} ended with status {status}")
        peaks.append(usage.ru_maxrss / 1024)
        printed.append(float(output.strip().rpartition("\n")[2] or "nan"))
    return Measurement(statistics.median(seconds), max(peaks), statistics.median(printed))


def rates_in_turn(ways: Mapping[str, Callable[[], object]], count: int, repeats: int) -> dict[str, float]:
    """Inputs a second of each way, which handles `count`: medians of runs in turn, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: count / statistics.median(times) for name, times in seconds.items()}


def machine() -> str:
    """The machine in one line."""
    import torch

    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, torch {torch.__version__}"
