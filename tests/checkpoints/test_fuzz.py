"""Damaged and random files: each is read or refused in one line, in bounded time and memory."""

import os
import pickle
import random
import resource
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_encoders.checkpoints.checkpoint import TensorHandle
from hf_encoders.checkpoints.files import CheckpointError, open_checkpoint
from hf_encoders.checkpoints.structure import walk
from tests.conftest import ROOT
from tests.helpers.checkpoint_samples import all_kinds, repacked

# More than torch and NumPy need in the address space, and far less than a bomb does.
_MEMORY, _SECONDS = 6 << 30, 10


def try_to_read(path):
    """Open a file and read all of its tensors; the error's text if it is refused."""
    try:
        content = open_checkpoint(path).content
        for value in walk(content):
            if isinstance(value, TensorHandle) and value.kind == "dense":
                value.read().clone()
    except CheckpointError as error:
        assert error.__cause__ is None, "only the last net caught it"
        return str(error)
    repr(content)
    return None


def mutated(kinds, seed):
    """A valid file that is changed somewhere; half of the archives are changed inside, with CRC-32s that are right."""
    choice = random.Random(seed)
    data = choice.choice(kinds)
    if data.startswith(b"PK") and choice.random() < 0.5:
        inner = choice.choice([".pkl", ".pkl", ".npy", "byteorder"])
        return repacked(
            data,
            zipfile.ZIP_STORED,
            lambda name, record: changed(choice, record) if name.endswith(inner) and record else record,
        )
    return changed(choice, data)


def changed(choice, data):
    """Bytes with a few changed, numbers made large, parts doubled, moved or left out."""
    data = bytearray(data)
    for _ in range(choice.choice([1, 1, 2, 3, 8])):
        place = choice.randrange(len(data))
        match choice.randrange(8):
            case 0 | 1:
                data[place] = choice.randrange(256)
            case 2:
                data[place] ^= 1 << choice.randrange(8)
            case 3:
                data[place : place + choice.randrange(1, 9)] = b""
            case 4:
                data[place:place] = choice.randbytes(choice.randrange(1, 9))
            case 5:
                large = choice.choice(
                    [struct.pack("<I", 0xFFFFFFFF), struct.pack("<Q", 1 << 62), b"\x7f" * 4, bytes(4)]
                )
                data[place : place + len(large)] = large
            case 6:
                start = choice.randrange(len(data))
                data[place:place] = data[start : start + choice.randrange(1, 64)]
            case 7:
                # Opcodes beside each other, where a pickle may be.
                data[place : place + 2] = choice.choice(
                    [b"R.", b"b.", b"c\n", b"Q.", b"(t", b"\x81.", b"0.", b"2R", b"ee"]
                )
        if not data:
            data = bytearray(b"\x80")
    return bytes(data[: choice.randrange(1, len(data) + 1)] if choice.random() < 0.1 else data)


def run_seeds(path, first, count):
    """Try so many mutated files; the first that takes too long or raises anything else ends the process."""
    kinds = list(all_kinds().values())
    read = 0
    for seed in range(first, first + count):
        Path(path).write_bytes(mutated(kinds, seed))
        start = time.perf_counter()
        try:
            message = try_to_read(path)
        except BaseException:
            print("seed", seed, file=sys.stderr)
            raise
        assert time.perf_counter() - start < _SECONDS, f"seed {seed} takes long"
        assert message is None or (message.startswith(str(path)) and message.isprintable()), (seed, message)
        read += message is None
    print(read)


def in_a_process(path, first, count):
    """A process of its own: foreign memory that is read ends it, memory without bounds is not there."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.checkpoints.test_fuzz", str(path), str(first), str(count)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY)),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


def test_mutated_files_are_read_or_refused(tmp_path):
    assert 0 < in_a_process(tmp_path / "a.pth", 0, 2000) < 2000


@pytest.mark.slow
def test_many_mutated_files_are_read_or_refused(tmp_path):
    """`FUZZ_FILES=100000` tries more, in hours."""
    count = int(os.environ.get("FUZZ_FILES", 10_000))
    assert 0 < in_a_process(tmp_path / "a.pth", 2000, count) < count


_NAMES = st.sampled_from(
    [b"os system", b"builtins set", b"builtins getattr", b"collections OrderedDict", b"torch._utils _rebuild_tensor_v2",
     b"torch FloatStorage", b"numpy dtype", b"numpy.core.multiarray _reconstruct", b"numpy.core.multiarray scalar",
     b"torch._tensor _rebuild_from_type_v2", b"copyreg _reconstructor", b"copyreg __newobj__", b"torch Size",
     b"torch.storage _load_from_bytes", b"torch.nn.parameter Parameter", b"_codecs encode", b"builtins bytearray"]
)  # fmt: skip
_ARRAY = pickle.dumps(np.arange(2), 2)[2:-1]  # compares with anything value by value
_OPERATIONS = st.one_of(
    st.just(_ARRAY),
    _NAMES.map(lambda name: b"c" + name.replace(b" ", b"\n") + b"\n"),
    st.sampled_from(
        [bytes([code]) for code in b"(0123Nl]}tdeausbo)R\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94Q"]
    ),
    st.integers(0, 3).flatmap(lambda index: st.sampled_from([b"h%c" % index, b"q%c" % index])),
    st.binary(max_size=6).map(lambda data: b"C%c%b" % (len(data), data)),
    st.sampled_from(
        [b"K\x01", b"K\x00", b"J\xff\xff\xff\xff", b"M\x00\x40", b"\x8c\x02f4", b"\x8c\x01<", b"\x8c\x06latin1",
         b"\x8c\x07storage", b"\x8c\x010", b"\x8c\x03cpu", b"G?\xf0\0\0\0\0\0\0", b"\x8a\x09" + b"\xff" * 8 + b"\0"]
    ),
)  # fmt: skip


@given(st.lists(_OPERATIONS, max_size=40))
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_any_operations_are_read_or_refused(tmp_path_factory, operations):
    path = tmp_path_factory.getbasetemp() / "operations.pkl"
    path.write_bytes(b"\x80\x04" + b"".join(operations) + b".")
    try_to_read(path)


if __name__ == "__main__":
    run_seeds(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
