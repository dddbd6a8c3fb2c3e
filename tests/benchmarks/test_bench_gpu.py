"""The GPU benchmark runs, in small, where there is no GPU."""

import subprocess
import sys

from tests.conftest import ROOT


def test_it_runs_on_a_cpu():
    script = [sys.executable, "benchmarks/bench_gpu.py", "--device", "cpu", "--quick", "--repeats", "1"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ") and "a second" not in line]
    assert sum("encode, fp32" in row for row in rows) == 3 and sum("FSDP2" in row for row in rows) == 1
    assert "Error" not in done.stdout
    exact = [row.split("|")[-2].strip() for row in rows if "encode, fp32" in row]
    assert all(float(difference) < 1e-5 for difference in exact)


def test_without_a_gpu_it_says_so():
    script = [sys.executable, "benchmarks/bench_gpu.py"]
    done = subprocess.run(
        script, cwd=ROOT, capture_output=True, text=True, env={"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 2 and "no CUDA device here; --device cpu --quick runs it on the CPU" in done.stderr
