"""Tiny legacy checkpoints in every wrapping and way of saving, and the commands as a person runs them."""

import io
import json
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig, command_line
from hf_encoders.commands.convert import command as convert_main
from tests.conftest import TINY
from tests.helpers.golden import golden_tensor

EMBEDDING, SIZE = TINY["hidden_size"], 64


def tiny_state(**changes):
    """The state dict of a tiny legacy AutoEncoder; its weights are none that an initialisation gives."""
    return dict(_make_state(json.dumps(changes)))


@cache
def _make_state(changes):
    with torch.device("meta"):
        model = DepthAutoencoderModel(DepthSemanticEncoderConfig(**TINY | json.loads(changes)))
    return {name: golden_tensor(name, tuple(value.shape)) for name, value in model.state_dict().items()}


def encoder_part(state, prefix=""):
    return {prefix + k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}


def _training(state, number):
    return {
        "epoch": 7,
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 3e-4}]},
        "scheduler_state_dict": {"last_epoch": 7},
        "loss": number(0.25),
        "best_loss": number(0.125),
        "training_history": {"train_loss": [number(0.5), number(0.25)], "val_loss": [number(0.5), number(0.125)]},
        "config": {"image_size": SIZE, "latent_dim": EMBEDDING, "input_channels": 1, "height_range": 7.5},
    }


def _extracted(state, number, **others):
    sizes = {"input_channels": 1, "latent_dim": EMBEDDING, "model_type": "EnhancedResNet50Encoder"}
    return {"encoder_state_dict": encoder_part(state), "model_config": sizes, **others}


# Name → what is saved, from the AutoEncoder's state dict and what makes numbers of the metadata.
WRAPPINGS = {
    "training": _training,
    "bare autoencoder": lambda state, number: state,
    "extracted": lambda state, number: _extracted(
        state, number, extracted_from="best.pth", extraction_info={"total_params": number(5728)}
    ),
    "extracted by class": lambda state, number: _extracted(state, number, model_info={"total_params": number(5728)}),
    "bare encoder": lambda state, number: encoder_part(state),
    "wrapper class": lambda state, number: encoder_part(state, "encoder."),
}
# Name → how it is saved: arguments of `write_legacy`.
SAVINGS = {
    "plain": {},
    "module.": {"rename": "module.{}".format},
    "_orig_mod.": {"rename": "_orig_mod.{}".format},
    "module._orig_mod.": {"rename": "module._orig_mod.{}".format},
    "_orig_mod.module.": {"rename": "_orig_mod.module.{}".format},
    "sub-module": {"rename": lambda key: key.replace(".", "._orig_mod.", 1)},
    "cuda": {"location": "cuda:0"},
    "old format": {"_use_new_zipfile_serialization": False},
    "old format, cuda": {"_use_new_zipfile_serialization": False, "location": "cuda:0"},
    "half": {"dtype": torch.float16},
    "bfloat16": {"dtype": torch.bfloat16},
    "numpy": {"number": np.float64},
    "parameters": {"convert": lambda t: torch.nn.Parameter(t) if t.is_floating_point() else t},
}


def write_legacy(
    path,
    wrapping="training",
    state=None,
    *,
    wrappings=WRAPPINGS,
    rename=str,
    dtype=None,
    convert=None,
    number=float,
    location=None,
    **options,
):
    """Save a tiny checkpoint; returns its path. `location` is the device that its storages claim to be on."""
    state = tiny_state() if state is None else state
    content = wrappings[wrapping](cast(state, dtype), number)
    inner = next((key for key in ("model_state_dict", "encoder_state_dict") if key in content), None)
    changed = {rename(k): convert(v) if convert else v for k, v in (content[inner] if inner else content).items()}
    tag = torch.serialization.location_tag if location is None else lambda storage: location
    with mock.patch("torch.serialization.location_tag", tag):
        torch.save({**content, inner: changed} if inner else changed, path, **options)
    return Path(path)


def cast(state, dtype):
    return {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in state.items()}


@contextmanager
def one_thread():
    """Tiny networks gain nothing from threads, and wait for each other where other processes run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_command(main, *argv):
    """Run a command in this process as the shell would: (exit status, stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with one_thread(), redirect_stdout(out), redirect_stderr(err):
        try:
            command_line.run(lambda: main([str(arg) for arg in argv]))
        except SystemExit as exit:
            return exit.code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def convert(*argv, main=convert_main):
    """Run a conversion that must succeed; returns what it printed."""
    status, out, err = run_command(main, *argv)
    assert status == 0, err
    return out


def refusal(*argv, main=convert_main):
    """Run a command that must end as the rules for errors say; returns its one line."""
    status, _, err = run_command(main, *argv)
    assert status == 2
    assert err.count("\n") == 1 and err.endswith("\n") and err.strip() and "Traceback" not in err
    return err


def tree(folder):
    """Every path below a folder with the bytes of the files, hidden ones too."""
    return {path: path.is_file() and path.read_bytes() for path in Path(folder).rglob("*")}
