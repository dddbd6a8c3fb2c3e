"""Tests that fork run in an interpreter of their own.

Threads of whatever earlier tests used (OpenVINO's, of quantisers and of other libraries) are not there in a forked
process, and it may wait for one of them. What is tested are this package's own threads.
"""

import os
import subprocess
import sys

import pytest

_FRESH = "HF_ENCODERS_TEST_IS_FRESH"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is marked `fresh_process` by another pytest."""
    if pyfuncitem.get_closest_marker("fresh_process") is None or _FRESH in os.environ:
        return None
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        words, cwd=pyfuncitem.config.rootpath, env=environment | {_FRESH: "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return True
