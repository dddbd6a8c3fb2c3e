"""Small files of every container, for tests that read, damage or tamper with them."""

import io
import json
import pickle
import warnings
import zipfile

import numpy as np
import torch
from safetensors.torch import save

OLD = {"_use_new_zipfile_serialization": False}


class Settings:
    """An object of a class that no reader can import elsewhere."""

    def __init__(self, **values):
        self.__dict__.update(values)


def saved(content, **options):
    """What torch.save writes, as bytes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def content():
    """A training checkpoint with a bit of everything."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(4, 3, generator=generator)
    return {
        "state_dict": {"a.weight": weight, "a.bias": torch.rand(4, generator=generator).half(), "tied": weight},
        "view": weight.T[1:],
        "counter": torch.tensor(3),
        "args": Settings(lr=1e-3, size=(1, 2), names=["a", "b"]),
        "loss": np.float64(0.5),
        "history": np.arange(6, dtype="f4").reshape(2, 3),
        "classes": np.array(["cat", "dog"]),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "epoch": 3,
        "tags": {"x", "y"},
        "raw": b"abc",
    }


def repacked(data, method=zipfile.ZIP_DEFLATED, change=lambda name, record: record):
    """A zip archive packed again, as other programs do it; `change` gives other content or None for no record."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for entry in old.infolist():
            record = change(entry.filename, old.read(entry))
            if record is not None:
                new.writestr(entry.filename, record)
    return buffer.getvalue()


def script(module=None):
    """A TorchScript archive."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module or torch.nn.Linear(2, 3)), buffer)
    return buffer.getvalue()


def npz():
    """NumPy's archive, compressed."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.ones((2, 3), "f4"), b=np.arange(3), names=np.array(["x", "y"]))
    return buffer.getvalue()


def all_kinds():
    """Name → the bytes of a file of each kind that is read."""
    tensors = {"a": torch.ones(3), "b": torch.arange(6).reshape(2, 3)}
    return {
        "zip": saved(content()),
        "zip, protocol 4": saved(content(), pickle_protocol=4),
        "deflated zip": repacked(saved(content())),
        "old format": saved(content(), **OLD),
        "old format, protocol 3": saved(content(), pickle_protocol=3, **OLD),
        **{f"pickle, protocol {number}": pickle.dumps(content(), number) for number in range(6)},
        "module": saved(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))),
        "TorchScript": script(),
        "safetensors": save(tensors, {"note": json.dumps({"epoch": 3})}),
        ".npz": npz(),
    }
