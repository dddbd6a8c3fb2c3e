"""`import hf_encoders` and the command's help import neither torch nor transformers, and every name is there."""

import importlib
import json
import pickle
import subprocess
import sys

import pytest

import hf_encoders

# In one fresh process: imports, help and a mistake, as a person types them. It prints what was imported then.
CHEAP = """
import contextlib, io, json, sys
import hf_encoders
names = dir(hf_encoders)
from hf_encoders.commands import main as cli
from hf_encoders.command_line import run
for arguments in (["-h"], ["encode", "-h"], ["--version"], ["encode", "model"], ["embroider"], []):
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run(lambda: cli.command(arguments))
    except SystemExit:
        continue
    raise AssertionError(arguments)
print(json.dumps([names, sorted(name for name in sys.modules if "." not in name)]))
"""


def test_neither_import_nor_help_imports_torch_or_transformers():
    output = subprocess.run([sys.executable, "-c", CHEAP], capture_output=True, text=True, check=True).stdout
    names, modules = json.loads(output)
    assert set(hf_encoders.__all__) <= set(names)
    assert not {"torch", "transformers", "datasets", "numpy", "PIL", "huggingface_hub"} & set(modules)


@pytest.mark.parametrize("name", hf_encoders.__all__)
def test_every_public_name_is_imported_from_its_module(name):
    vars(hf_encoders).pop(name, None)  # as before it was asked for
    value = getattr(hf_encoders, name)
    assert value.__name__ == name
    assert value.__module__ == f"hf_encoders.{hf_encoders._MODULES[name]}"
    assert value is vars(hf_encoders)[name]


def test_a_star_import_gives_the_public_names():
    names = {}
    exec("from hf_encoders import *", names)
    assert set(hf_encoders.__all__) == set(hf_encoders._MODULES) <= set(names)


def test_an_unknown_name_is_an_error_that_names_it():
    with pytest.raises(AttributeError, match="module 'hf_encoders' has no attribute 'DeptEncoder'"):
        _ = hf_encoders.DeptEncoder


def test_classes_and_configurations_are_pickled():
    config = hf_encoders.DepthSemanticEncoderConfig(hidden_size=16)
    copied = pickle.loads(pickle.dumps((hf_encoders.MultimodalEncoderModel, config)))
    assert copied == (hf_encoders.MultimodalEncoderModel, config)


def test_a_reload_keeps_the_classes():
    model = hf_encoders.DepthSemanticEncoderModel
    assert importlib.reload(hf_encoders).DepthSemanticEncoderModel is model
