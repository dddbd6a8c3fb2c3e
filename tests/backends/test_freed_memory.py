"""Commands keep the memory that PyTorch frees; nobody who said otherwise is overruled."""

import os
import platform
import subprocess
import sys

import pytest

# Page faults of tensors of 40 MB that come and go.
FAULTS = """
import resource, sys, torch
from hf_encoders.backends.freed_memory import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(80):
    torch.empty(10_000_000).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
NAMES = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def run(word, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(NAMES)}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, word], env=clean | environment, capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_pages_are_cleared_once():
    _, usual = run("leave")
    kept, faults = run("keep")
    assert kept == "True" and faults < usual / 4


def test_what_a_person_told_the_allocator_stays():
    assert run("keep", MALLOC_TRIM_THRESHOLD_="100000")[0] == "False"
