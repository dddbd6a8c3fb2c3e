"""Files whose NumPy values are tampered with reach nothing of the process that reads them."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from hf_encoders.checkpoints.files import CheckpointError
from tests.conftest import ROOT
from tests.helpers.checkpoint_samples import saved
from tests.helpers.read_checkpoint import read_checkpoint

_reconstruct, _scalar = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]


class Calls:
    """Pickled as a call of a function, and a state for what it returns."""

    def __init__(self, function, arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def dtype(name="f8", order="<", subarray=None, names=None, fields=None, size=-1, alignment=-1, flags=0, *metadata):
    state = (3, order, subarray, names, fields, size, alignment, flags, *metadata)
    return Calls(np.dtype, (name, False, True), state)


def array(dtype, shape, data, version=1):
    return Calls(_reconstruct, (np.ndarray, (0,), b"b"), (version, shape, dtype, False, data))


F8, O8 = dtype(), dtype("O8", "|", flags=63)
ADDRESS = id(object).to_bytes(8, "little")  # of a Python object, which a dtype of objects would hand out
FIELDS, PARSECS = {"a": (np.dtype("f8"), 8000)}, ({}, (b"parsec", 1, 1, 1))
DAMAGED = {
    "a scalar of too few bytes": Calls(_scalar, (F8, b"\0")),
    "too few bytes": array(F8, (900,), bytes(8)),
    "too many bytes": array(F8, (1,), bytes(16)),
    "a shape below zero": array(F8, (-1, -1), bytes(8)),
    "a shape that overflows": array(F8, (2**62, 4), bytes(0)),
    "a shape that is no tuple": array(F8, "a", bytes(8)),
    "letters that are none": array(dtype("U1", "<", size=4), (1,), b"\xff" * 4),
}
STUBS = {
    "a subarray larger than the item": array(dtype(subarray=(np.dtype("f8"), (900,)), size=8), (1,), b"\0" * 8),
    "fields larger than the item": array(dtype("V8", "|", None, ("a",), FIELDS, 8), (1,), bytes(8)),
    "objects by their address": array(O8, (1,), ADDRESS),
    "objects in a list": array(O8, (1,), [1]),
    "an object's scalar": Calls(_scalar, (O8, ADDRESS)),
    "a number that becomes an object": array(dtype("f8", "|", flags=63, size=8, names=("a",)), (1,), ADDRESS),
    "a void scalar": Calls(_scalar, (dtype("V9", "|", size=9), bytes(9))),
    "a dtype of another size": array(dtype("f8", size=8000), (1,), bytes(8)),
    "a subarray in the name": array(dtype("(900,)f8"), (1,), bytes(8)),
    "fields in the name": array(dtype("f8,f8"), (1,), bytes(16)),
    "dates of a unit that is none": array(dtype("M8", "<", None, None, None, -1, -1, 0, PARSECS), (1,), bytes(8)),
    "metadata": array(dtype("f8", "<", None, None, None, -1, -1, 0, {"a": 1}), (1,), bytes(8)),
    "an unknown byte order": array(dtype("f8", "?"), (1,), bytes(8)),
    "the constructor": Calls(np.ndarray, ((900,), "f8")),
    "a class of its own": Calls(_reconstruct, (dict, (0,), b"b")),
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "old"])
def test_tampered_values_are_refused_or_stay_stubs(options, tmp_path):
    """In a process of its own: a dtype that is believed ends the process, or reads its memory."""
    tampered = DAMAGED | STUBS
    for number, value in enumerate(tampered.values()):
        (tmp_path / f"{number}.pth").write_bytes(saved({"weight": torch.ones(1), "history": value}, **options))
    paths = [f"{tmp_path}/{number}.pth" for number in range(len(tampered))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.checkpoints.test_numpy_values", *paths],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(zip(tampered, done.stdout.splitlines(), strict=True))
    for name, line in said.items():
        if name in DAMAGED:
            assert line.startswith("damaged, or not a PyTorch checkpoint (") and "NumPy" in line, (name, line)
        else:  # objects are what the pickle has in their place: never what lies at an address
            plain = (f"READ {ADDRESS!r}", "READ [1]")
            assert line.startswith("READ <stub of ") or line in plain, (name, line)


@pytest.mark.parametrize("dtype", "? i2 >i4 u2 u8 f2 >f8 c8 c16 S5 U3 M8[ns] >m8[25s]".split())
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_values_are_read_whole(dtype, order, tmp_path):
    expected = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype, order=order)
    content = {"history": [expected, (expected[0, 0],)], "empty": np.empty((0, 3), dtype)}
    (tmp_path / "a.pth").write_bytes(saved(content))
    read = read_checkpoint(tmp_path / "a.pth")
    np.testing.assert_array_equal(read["history"][0], expected, strict=True)
    assert read["history"][1] == (expected[0, 0],) and read["empty"].shape == (0, 3)
    read["history"][0][:] = 0  # not a view of the file's bytes


def test_values_that_contain_themselves_are_read(tmp_path):
    content = {"history": [np.float64(2)]}
    content["history"].append(content["history"])
    content["itself"] = content
    (tmp_path / "a.pth").write_bytes(saved(content))
    read = read_checkpoint(tmp_path / "a.pth")
    assert read["itself"] is read and read["history"][1] is read["history"] and read["history"][0] == 2


def main(paths):
    """One line for each file: what is said of it, or what came out."""
    for path in paths:
        try:
            print("READ", repr(read_checkpoint(path)["history"])[:100])
        except CheckpointError as error:
            print(str(error).removeprefix(f"{path}: "))


if __name__ == "__main__":
    main(sys.argv[1:])
