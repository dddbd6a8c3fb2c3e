"""Fresh processes that know the test Hub only."""

import subprocess
from pathlib import Path
from typing import Any

from .hub import Hub

# Command lines of `hf-encoders` in turn: errors go to stderr as from a terminal, their exit statuses to stdout.
COMMANDS = """
import json, os, sys
from hf_encoders import command_line
from hf_encoders.commands import main as hf_encoders

for token, *words in json.loads(sys.argv[1]):
    os.environ["HF_TOKEN"] = token
    try:
        command_line.run(lambda: hf_encoders.command(words))
    except SystemExit as end:
        print(end.code)
"""


def fresh(hub: Hub, home: Path, *words: Any, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with a home of its own, in the folder of that."""
    environment = hub.environment(home, **{"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **changes})
    return subprocess.run(list(map(str, words)), env=environment, cwd=home.parent, capture_output=True, text=True)
