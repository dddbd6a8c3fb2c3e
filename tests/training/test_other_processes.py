"""A run goes on with another number of processes: the same rows in the same steps, and weights equal but for rounding."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.helpers.ranks import on_ranks
from tests.helpers.runs import forget_runs
from tests.helpers.training_runs import EXACT, RECIPE
from tests.training.recorded_runs import recorded

pytestmark = pytest.mark.usefixtures("first_run")

SCRIPT = Path(__file__).parent / "recorded_runs.py"
RATE = 1e-3
COMMON = RECIPE | {
    "epochs": 2, "checkpoint_steps": 1, "keep_last": 0, "learning_rate": RATE, "lr_schedule": "cosine",
    "logging_steps": 1, "image_scale": 0.6, "ema_decay": 0.5,
}  # fmt: skip
RECIPES = {
    # With dropout, and a depth tower whose BatchNorm normalises the rows of a process.
    "plain": COMMON | {"batch_size": 10},
    "stream": COMMON | {"batch_size": 10, "streaming": True, "max_steps": 8, "shuffle_buffer": 30},
    "chunks": COMMON | {"batch_size": 10, "chunk_size": 4, "batch_norm": "update_once"},
    "exact": COMMON | EXACT | {"max_steps": 8, "epochs": 2, "batch_size": 20, "learning_rate": RATE},
}


def on_two(folder, *calls):
    """Run command lines on two processes: for each the rows of each step, as (number of the micro-batch, rows)."""
    (folder / "calls.json").write_text(json.dumps([[name, list(map(str, words))] for name, words in calls]))
    return list(zip(*on_ranks(SCRIPT, folder), strict=True))


def on_one(name, *words):
    forget_runs()
    return [recorded(name, words)]


def rows_of(results):
    """Of each step the rows of each micro-batch, in the order of all processes."""
    steps = zip(*(result["steps"] for result in results), strict=True)
    return [[rows for micro in zip(*step, strict=True) for rows in micro] for step in steps]


def in_order(results):
    """Of each step all rows."""
    return [[row for rows in step for row in rows] for step in rows_of(results)]
