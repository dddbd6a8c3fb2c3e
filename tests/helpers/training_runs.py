"""Runs of the training script on a tiny model and real rows, as processes of their own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from tests.conftest import ROOT, SAMPLES
from tests.helpers import stop_points

SCRIPT = ROOT / "training" / "pretrain.py"
TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32}
RECIPE = {
    "dataset": [str(SAMPLES / "rooms" / "validation.parquet")],
    "validation_split": "",
    "depth_column": "depth",
    "num_workers": 0,
    "tokenizer": str(SAMPLES / "tokenizer" / "vocab.txt"),
    "model_config": {
        "text_config": {"model_type": "bert", "vocab_size": 554, "max_position_embeddings": 32, **TRANSFORMER},
        "vision_config": {"model_type": "vit", "image_size": 32, "patch_size": 16, **TRANSFORMER},
        "depth_config": {
            "image_size": 32, "hidden_size": 8, "stem_sizes": [2, 4], "hidden_sizes": [8, 8, 8, 8],
            "depths": [1, 1, 1, 1], "enhance_size": 8, "fusion_size": 4, "fc_sizes": [8, 8],
        },
        "projection_dim": 8,
    },
    "epochs": 2,
    "batch_size": 20,
    "learning_rate": 1e-3,
    "report_to": "none",
}  # fmt: skip
# The same without dropout and with the depth tower's BatchNorm out of the way: steps then depend on the rows alone.
EXACT = {
    "model_config": RECIPE["model_config"]
    | {
        "text_config": RECIPE["model_config"]["text_config"]
        | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        "depth_config": RECIPE["model_config"]["depth_config"] | {"hidden_dropout_prob": 0.0},
    },
    "freeze": ["depth_encoder"],
    "learning_rate": 0.01,
    "lr_schedule": "constant",
    "max_steps": 2,
    "checkpoint_steps": 1,
    "keep_last": 0,
}
EXTRA = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
ENVIRONMENT = os.environ | EXTRA


def write_recipe(folder, **changes):
    path = Path(folder) / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE | changes))
    return path


def command(recipe, output, **options):
    words = [sys.executable, str(SCRIPT), str(recipe), "--output_dir", str(output)]
    for name, value in options.items():
        words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


def run_until(event, path, recipe, output, number=signal.SIGKILL, **options):
    """Run to a point, see `stop_points.run_until`."""
    return stop_points.run_until(event, path, *command(recipe, output, **options)[1:], number=number, **EXTRA)


def run(recipe, output, **options):
    """Run to the end; returns what it wrote to the terminal."""
    done = subprocess.run(command(recipe, output, **options), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def assert_equal_but_for_rounding(found, expected, step):
    """Weights of two runs whose steps, of this size, should be the same.

    AdamW makes whole steps of the smallest gradients too, of which rounding may be the larger part. So all but one
    weight in a thousand differ by no more than a fiftieth of a step, and none by more than both runs' two steps. What
    is left out has nothing but rounding for a gradient: what is added to all keys leaves a softmax as it is.
    """
    assert found.keys() == expected.keys()
    names = [name for name in expected if not name.endswith(("key.bias", "k_proj.bias"))]
    off = torch.cat([(found[name].float() - expected[name].float()).abs().flatten() for name in names])
    assert (off > step / 50).float().mean() <= 1e-3 and off.max() <= 4 * step


def without_biases_before_norms(state):
    """The weights of `RECIPE`'s model without those that a BatchNorm takes off again: their gradient is rounding."""
    return {name: value for name, value in state.items() if not re.search(r"(depth_enhance|fusion)\.\d\.bias", name)}


def assert_equal_moments(one, two, checkpoint):
    """AdamW's means of the gradients of two runs are the same, which rounding does not enlarge."""
    first, second = (torch.load(run / "checkpoints" / checkpoint / "optimizer.bin")["state"] for run in (one, two))
    assert first.keys() == second.keys()
    largest = max(state["exp_avg"].abs().max() for state in first.values())
    for number, state in first.items():
        tolerance = 1e-3 * state["exp_avg"].abs().max() + 1e-6 * largest
        assert (second[number]["exp_avg"] - state["exp_avg"]).abs().max() <= tolerance, number
