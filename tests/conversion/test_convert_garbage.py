"""Random bytes and damaged checkpoints end in one line or a conversion, never in a traceback."""

import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_encoders.commands.convert import command as convert_main
from tests.helpers.legacy_files import encoder_part, run_command, tiny_state, tree, write_legacy


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """A small checkpoint in both formats, as bytes."""
    path, state = tmp_path_factory.mktemp("valid") / "a.pth", encoder_part(tiny_state(), "encoder.")
    formats = {"zip": True, "old": False}
    return {
        name: write_legacy(path, state=state, _use_new_zipfile_serialization=is_zip).read_bytes()
        for name, is_zip in formats.items()
    }


MAGICS = [b"", b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02", b"\x80\x04\x95", b"\x89HDF", b"version https://git-lfs", b"{"]
random_bytes = st.tuples(st.sampled_from(MAGICS), st.binary(max_size=300)).map(b"".join)
mutations = st.tuples(st.sampled_from(["zip", "old"]), st.integers(0, 2**32))


@given(st.one_of(random_bytes, mutations, mutations))
@settings(max_examples=120, deadline=None, derandomize=True, database=None)
def test_garbage_never_gives_a_traceback(valid, tmp_path_factory, garbage):
    folder = tmp_path_factory.getbasetemp() / "garbage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "a.pth").write_bytes(garbage if isinstance(garbage, bytes) else mutated(valid, *garbage))
    before = tree(folder)
    status, _, err = run_command(convert_main, folder / "a.pth")
    assert status in (0, 2)
    if status == 2:
        assert err.startswith("error: ") and err.count("\n") == 1 and tree(folder) == before


def mutated(valid, kind, seed):
    """A valid file with a few bytes changed or left out, and its end sometimes cut off."""
    choice, data = random.Random(seed), bytearray(valid[kind])
    for _ in range(choice.randrange(1, 4)):
        place = choice.choice([1, -1]) * choice.randrange(16, 24_000)  # most of the structure is near the ends
        length = choice.randrange(1, 5)
        data[place : place + length] = choice.randbytes(choice.choice([length, length, 0]))
    return bytes(data[: choice.randrange(len(data))] if choice.random() < 0.15 else data)
