"""Runs of the training script on a tiny model and real rows, as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import ROOT, SAMPLES

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
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def write_recipe(folder, **changes):
    path = Path(folder) / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE | changes))
    return path


def command(recipe, output, **options):
    words = [sys.executable, str(SCRIPT), str(recipe), "--output_dir", str(output)]
    for name, value in options.items():
        words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return words


def run(recipe, output, **options):
    """Run to the end; returns what it wrote to the terminal."""
    done = subprocess.run(command(recipe, output, **options), env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr
