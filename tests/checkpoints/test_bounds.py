"""Files that ask for more memory, depth or time than their size justifies are refused, or read in little of each."""

import gc
import io
import os
import resource
import struct
import subprocess
import sys
import time
import zipfile

import pytest
import torch

from hf_encoders.checkpoints.checkpoint import TensorHandle
from hf_encoders.checkpoints.files import CheckpointError, open_checkpoint
from hf_encoders.checkpoints.structure import walk
from tests.conftest import ROOT
from tests.helpers.checkpoint_samples import OLD, repacked, saved

# What a file may take of memory beside torch and NumPy, and how many times its own size more; the time for one file.
_MIB, _TIMES, _SECONDS = 500, 50, 120
# The address space that a process may use: far more than that, and less than a bomb takes.
_SPACE = 12 << 30


def call(function, arguments):
    return b"c" + function.replace(b" ", b"\n") + b"\n" + arguments + b"R"


def record(payload, method=zipfile.ZIP_DEFLATED):
    """A zip whose pickle is the payload."""
    return repacked(saved({}), method, lambda name, data: payload if name.endswith("data.pkl") else data)


def zeros(count):
    """A compressed zip with a tensor of many zeros."""
    return repacked(saved({"w": torch.zeros(count)}))


def number(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def counted(code, data):
    """An operation with data of a length of four bytes."""
    return code + struct.pack("<I", len(data)) + data


def chain(count):
    """A list of lists, each of which lies in the one before it, too."""
    links = (b"j" + struct.pack("<I", i) + b"j" + struct.pack("<I", i + 1) + b"a0" for i in range(count))
    return b"\x80\x04]\x94" + b"]\x94" * count + b"".join(links) + b"0" * count + b"."


def copies_of_an_array():
    names = b"cnumpy\ndtype\n\x8c\x02u1\x85Rq\x01cnumpy.core.numeric\n_frombuffer\nq\x02("
    one = b"h\x02(h\x00h\x01J" + struct.pack("<I", MILLION) + b"\x85\x8c\x01CtR"
    return b"\x80\x04" + counted(b"B", bytes(MILLION)) + b"q\x00" + names + one * 100_000 + b"t."


def tensor(size, stride, offset=0, count=4):
    """A file with a storage of so many values, and a view of it."""
    storage = b"((\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpuJ" + struct.pack("<i", count) + b"tQ"
    view = (
        b"ctorch._utils\n_rebuild_tensor_v2\n" + storage + number(offset) + numbers(size) + numbers(stride) + b"\x89NtR"
    )
    return repacked(
        saved({"w": torch.ones(4)}),
        zipfile.ZIP_STORED,
        lambda name, data: b"\x80\x02" + view + b"." if name.endswith("data.pkl") else data,
    )


MILLION = 1_000_000
REFUSED = {
    "a string of 4 GB": lambda: b"\x80\x04X\xff\xff\xff\xff.",
    "bytes of 2**62": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
    "a bytearray of 2**62": lambda: b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b".",
    "an integer of 2 GB": lambda: b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "an integer of negative size": lambda: b"\x80\x02\x8b\xff\xff\xff\xff.",
    "a string of negative size": lambda: b"\x80\x02T\xff\xff\xff\xff.",
    "a frame of 2**63": lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 63) + b"N.",
    "a deflated pickle of 1 GB": lambda: record(b"\x80\x02" + b"N0" * (500 * MILLION) + b"N."),
    "deflated sets": lambda: record(b"\x80\x04(" + b"\x8f" * (3 * MILLION) + b"t."),
    "sets": lambda: b"\x80\x04(" + b"\x8f" * (2 * MILLION) + b"t.",
    "marks": lambda: b"\x80\x04" + b"(" * (9 * MILLION) + b".",
    "stubs": lambda: b"\x80\x04ca\nb\nq\x00(" + b"h\x00)R" * (5 * MILLION // 4) + b"t.",
    "copies of a list": lambda: b"\x80\x04cbuiltins\nlist\nq\x00(" + b"N" * MILLION + b"lq\x01("
    + b"h\x00h\x01\x85R" * MILLION + b"t.",
    "copies of a text": lambda: b"\x80\x04" + counted(b"X", b"a" * MILLION) + b"q\x00("
    + call(b"_codecs encode", b"h\x00\x8c\x06latin1\x86") * 100_000 + b"t.",
    "copies of an array": copies_of_an_array,
    "lists in lists": lambda: b"\x80\x02" + b"]" * MILLION + b"a" * (MILLION - 1) + b".",
    "tuples in tuples": lambda: b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "dictionaries in dictionaries": lambda: b"\x80\x02" + b"}K\x01" * 100_000 + b"N" + b"s" * 100_000 + b".",
    "stubs in stubs": lambda: b"\x80\x02ca\nb\nq\x00N" + b"q\x01h\x00h\x01\x85R" * 50_000 + b".",
    "states in states": lambda: b"\x80\x02ca\nb\nq\x00" + b"h\x00)\x81" * 50_000 + b"b" * 49_999 + b".",
    "a chain beside its links": lambda: chain(1000),
    "pickles in pickles": lambda: nested_pickles(),
    "large keys": lambda: large_keys(),
    "objects of .npz": lambda: objects_of_npz(),
    "one pickle many times": lambda: one_pickle_many_times(),
    "a tensor beyond its storage": lambda: tensor([5], [1]),
    "an offset beyond the storage": lambda: tensor([1], [1], 4),
    "an offset that overflows": lambda: tensor([1], [1], 1 << 62),
    "a negative offset": lambda: tensor([1], [1], -1),
    "a stride beyond the storage": lambda: tensor([2, 2], [3, 1]),
    "a negative stride": lambda: tensor([2], [-1]),
    "a negative size": lambda: tensor([-1], [1]),
    "sizes that overflow": lambda: tensor([1 << 40, 1 << 40], [0, 0]),
    "another number of strides": lambda: tensor([2], [1, 1]),
    "a storage larger than its record": lambda: tensor([4], [1], 0, 1000),
    "a storage of negative size": lambda: tensor([4], [1], 0, -4),
    "a tensor of 16 GB in 16 bytes": lambda: tensor([1 << 32], [0]),
    "a compressed tensor of 4 GB": lambda: zeros(1 << 30),
    "an old file with a storage beyond it": lambda: saved({"w": torch.ones(4)}, **OLD).replace(
        struct.pack("<q", 4), struct.pack("<q", 1 << 60)
    ),
}  # fmt: skip
READ = {
    "a bytearray by its size": lambda: b"\x80\x02" + call(b"builtins bytearray", number(20 << 30) + b"\x85") + b".",
    "bytes by their size": lambda: b"\x80\x02" + call(b"builtins bytes", b"J\xff\xff\xff\x7f\x85") + b".",
    "a set of a range": lambda: b"\x80\x02"
    + call(b"builtins set", call(b"builtins range", b"J\xff\xff\xff\x7f\x85") + b"\x85") + b".",
    "a list times a number": lambda: b"\x80\x02" + call(b"operator mul", b"]N\x61J\xff\xff\xff\x7f\x86") + b".",
    "a void scalar": lambda: b"\x80\x02"
    + call(b"numpy.core.multiarray scalar", call(b"numpy dtype", b"\x8c\x0cV99999999999\x85") + b"C\x01a\x86") + b".",
    "a long number": lambda: b"\x80\x02\x8b" + struct.pack("<i", MILLION) + b"\x7f" * MILLION + b".",
    "a long number in text": lambda: b"\x80\x02I" + b"7" * MILLION + b"\n.",
    "a billion laughs": lambda: b"\x80\x02]q\x00"
    + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(100)) + b".",
    "a billion laughs as a key": lambda: b"\x80\x02)q\x00"
    + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(100)) + b"}h\x64Ns.",
    "keys of equal hashes": lambda: equal_hashes(),
    "states of one array": lambda: states_of_one_array(),
    "a memo of 4 billion": lambda: b"\x80\x02Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.",
    "a list in itself": lambda: b"\x80\x02]q\x00h\x00a.",
    "a key that is a list": lambda: b"\x80\x02}]Ns.",
    "nothing of a large shape": lambda: tensor([1 << 40, 0], [1, 1]),
}  # fmt: skip


def nested_pickles():
    data = b"N."
    for _ in range(20):
        data = b"\x80\x04ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(data)) + data + b"\x85R."
    return data


def large_keys():
    """A tuple of many parts as a key, again and again: its parts are counted once more each time."""
    return b"\x80\x02(" + b"K\x01" * 500 + b"tq\x000}(" + b"h\x00N" * MILLION + b"u."


def one_pickle_many_times():
    """A pickle that holds another one once, and asks to read it ten thousand times."""
    inner = b"\x80\x02" + b"N0" * 50_000 + b"N."
    once = b"h\x00h\x01\x85R0"
    return b"\x80\x04ctorch.storage\n_load_from_bytes\nq\x00" + counted(b"B", inner) + b"q\x01" + once * 10_000 + b"N."


def objects_of_npz():
    """Compressed arrays of objects, whose pickles are sets of nothing."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    array = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + b"\x80\x04(" + b"\x8f" * MILLION + b"t."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"{number}.npy", array)
    return buffer.getvalue()


def states_of_one_array():
    """An array that is remembered in many places, and gets its state many times."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
    state = b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02u1\x85R\x89C\x01\x00tq\x01"
    places = b"".join(b"r" + struct.pack("<I", 100 + place) for place in range(100_000))
    return b"\x80\x03" + state + array + places + b"2" * 50_000 + b"h\x01b0" * 50_000 + b"."


def equal_hashes():
    """Tuples of -1 and -2, whose hashes are all equal: comparing each with each would take hours."""
    sign = [b"J\xff\xff\xff\xff", b"J\xfe\xff\xff\xff"]
    tuples = (b"(" + b"".join(sign[number >> bit & 1] for bit in range(15)) + b"tN" for number in range(1 << 15))
    return b"\x80\x02}(" + b"".join(tuples) + b"u."


def read_all(path):
    """What came of a file, with the MiB and seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    try:
        content = open_checkpoint(path).content
        for value in walk(content):
            if isinstance(value, TensorHandle):
                value.read()
        del content, value
        said = "read"
    except CheckpointError as error:
        said = str(error) if error.__cause__ is None else repr(error.__cause__)
    seconds = time.perf_counter() - start
    return f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024} {seconds} {said}"


def read_in_forks(paths):
    """Read each file in a process of its own, which has torch already. Print how it ended, and what it said."""
    gc.freeze()  # else each collection of a child copies the memory that it shares
    for path in paths:
        output, its_output = os.pipe()
        child = os.fork()
        if not child:
            os.write(its_output, read_all(path).encode())
            os._exit(0)
        os.close(its_output)
        _, status = os.waitpid(child, 0)
        with os.fdopen(output) as said:
            print(status, said.read())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Name → exit status, MiB, seconds, what was said without the path, size of the file."""
    folder = tmp_path_factory.mktemp("bombs")
    paths = []
    for number, make in enumerate((REFUSED | READ).values()):
        paths.append(folder / f"{number}.pth")
        paths[-1].write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-m", "tests.checkpoints.test_bounds", *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (_SPACE, _SPACE)),
    )
    assert not done.returncode, done.stderr[-2000:]
    lines = [line.split(" ", 3) for line in done.stdout.splitlines()]
    return {
        name: (int(status), int(mib), float(seconds), said.removeprefix(f"{path}: "), path.stat().st_size)
        for name, path, (status, mib, seconds, said) in zip(REFUSED | READ, paths, lines, strict=True)
    }


@pytest.mark.parametrize("name", [*REFUSED, *READ])
def test_memory_depth_and_time_are_bounded(name, outcomes):
    status, mib, seconds, said, size = outcomes[name]
    print(f"{name}: {size:,} bytes, {mib} MiB, {seconds:.2f} s: {said}")
    assert status == 0 and (said == "read") == (name in READ) and "not enough memory" not in said, said
    assert mib < _MIB + _TIMES * size / (1 << 20) and seconds < _SECONDS


if __name__ == "__main__":
    read_in_forks(sys.argv[1:])
