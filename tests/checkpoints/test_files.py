"""Reading .pth files: what can be read, that nothing in them is executed, and what is said of the rest."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_encoders.checkpoints import files
from hf_encoders.checkpoints.checkpoint import Stub
from hf_encoders.checkpoints.files import CheckpointError, open_checkpoint
from tests.helpers.checkpoint_samples import OLD, all_kinds, content, repacked, saved
from tests.helpers.read_checkpoint import read_checkpoint

MAGICS = [
    *(b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"\x89HDF\r\n\x1a\n", b"version https://git-lfs"),
    *(b"{", b"\xef\xbb\xbf", b"\0" * 8 + b"{", saved({"w": torch.ones(2)})[:200], saved({}, **OLD)[:60]),
]


def read_bytes(folder, data):
    (folder / "a.pth").write_bytes(data)
    return read_checkpoint(folder / "a.pth")


def message(path):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and text.isprintable()
    return text.removeprefix(f"{path}: ")


def message_for(folder, data):
    (folder / "a.pth").write_bytes(data)
    return message(folder / "a.pth")


@pytest.mark.parametrize("options", [{}, OLD])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8", "u1", "bool"])
def test_numpy_values_are_plain_data(dtype, options, tmp_path):
    content = {"loss": np.dtype(dtype).type(1), "history": np.ones((2, 3), dtype), "weight": torch.ones(2)}
    read = read_bytes(tmp_path, saved(content, **options))
    assert read["loss"] == 1 and read["loss"].dtype == dtype
    np.testing.assert_array_equal(read["history"], content["history"], strict=True)


def test_numpy_values_are_read_under_the_names_of_old_and_new_numpy(tmp_path):
    data = saved({"loss": np.float64(1), "history": np.ones(2)}, **OLD)
    module = np.float64(0).__reduce__()[0].__module__.encode()  # a line of the pickle, so its length is free
    assert data.count(module + b"\n") == 2
    for name in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        assert read_bytes(tmp_path, data.replace(module + b"\n", name + b"\n"))["history"].tolist() == [1, 1]


def test_a_zip_that_a_tool_compressed_is_read_too(tmp_path):
    weight = torch.rand(1000)
    (tmp_path / "b.pth").write_bytes(repacked(saved({"w": weight}), zipfile.ZIP_DEFLATED))
    assert torch.equal(read_checkpoint(tmp_path / "b.pth")["w"], weight)


def test_large_files_are_mapped_not_copied(tmp_path):
    torch.save({"w": torch.zeros(1 << 20)}, tmp_path / "a.pth")
    weight = read_checkpoint(str(tmp_path / "a.pth"))["w"]
    with open("/proc/self/maps") as maps:
        assert str(tmp_path / "a.pth") in maps.read()
    weight += 1  # a private map: the file stays as it is
    assert read_checkpoint(tmp_path / "a.pth")["w"].sum() == 0


@pytest.mark.parametrize(
    "kind", [name for name, data in all_kinds().items() if b"Settings" in data or "deflated" in name]
)
def test_every_kind_of_pickle_gives_the_same(kind, tmp_path):
    (tmp_path / "a.pth").write_bytes(all_kinds()[kind])
    checkpoint = open_checkpoint(tmp_path / "a.pth")
    expected, found = content(), checkpoint.content
    assert list(found) == list(expected)
    assert checkpoint.classes == ("tests.helpers.checkpoint_samples.Settings",)
    for name in ("view", "counter"):
        assert torch.equal(found[name].read(), expected[name]) and found[name].shape == expected[name].shape
        assert found[name].read().stride() == expected[name].stride()
    state, wanted = found["state_dict"], expected["state_dict"]
    assert all(torch.equal(state[name].read(), wanted[name]) for name in wanted)
    assert state["a.bias"].dtype == torch.float16 and state["a.bias"].nbytes == 8
    # torch.save keeps that two names are one tensor; a pickle without it keeps it by reference.
    assert state["tied"].identity == state["a.weight"].identity != state["a.bias"].identity
    assert found["args"].state == {"lr": 1e-3, "size": (1, 2), "names": ["a", "b"]}
    assert (found["loss"], found["loss"].dtype) == (0.5, np.float64)
    np.testing.assert_array_equal(found["history"], expected["history"], strict=True)
    np.testing.assert_array_equal(found["classes"], expected["classes"], strict=True)
    assert found["objects"] == [{"a": 1}, None]
    assert (found["epoch"], found["tags"], found["raw"]) == (3, {"x", "y"}, b"abc")


@pytest.mark.parametrize("saving", [saved, lambda module: saved(module, **OLD), pickle.dumps])
def test_a_whole_module_is_plain_data(saving, tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    (tmp_path / "a.pth").write_bytes(saving({"model": torch.nn.DataParallel(module)}))
    wrapper = open_checkpoint(tmp_path / "a.pth").content["model"]
    assert isinstance(wrapper, Stub) and wrapper.name == "torch.nn.parallel.data_parallel.DataParallel"
    inner = wrapper.state["_modules"]["module"].state["_modules"]
    assert torch.equal(inner["0"].state["_parameters"]["weight"].read(), module[0].weight)
    assert inner["1"].state["_buffers"]["num_batches_tracked"].read() == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty; copy or download it again"),
        (b"epoch 1\nloss 0.5\n", "a text file"),
        ("höhe".encode() * 127 + b"aaa" + "é".encode(), "a text file"),  # the 512 bytes read first end inside a letter
        (b'{"epoch": 1}', "a JSON file"),
        (b" [1, 2]", "a JSON file"),
        (b"{}", "a JSON file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "run `git lfs pull`"),
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file"),
        (b"\0\1\2\3" * 99, "neither a zip archive nor a pickle"),
        (b"\xff\xfe\xfd", "neither a zip archive nor a pickle"),
        (b"PK\x03\x04" + b"\0" * 99, "damaged or truncated"),
        (saved({"w": torch.ones(99)})[:-50], "damaged or truncated"),
        (saved({"w": torch.ones(99)}, **OLD)[:-50], "damaged"),
        (b"\x80\x02", "damaged"),
        (b"\x80\x02.", "damaged"),
        (pickle.dumps([1, 2], 2), "holds a list, expected a dictionary"),
        (saved([torch.ones(1)]), "holds a list, expected a dictionary"),
        (saved(torch.ones(1), **OLD), "holds a Tensor, expected a dictionary"),
    ],
)
def test_other_files_are_told_apart(data, said, tmp_path):
    assert said in message_for(tmp_path, data)


def test_an_error_that_nobody_thought_of_is_one_line_too(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "read_pickles", lambda *arguments: {}["nobody thought of it"])
    assert message_for(tmp_path, pickle.dumps({})) == "damaged, or not a PyTorch checkpoint ('nobody thought of it')"


def test_what_is_no_file_is_told_apart(tmp_path):
    assert message(tmp_path / "none.pth") == "no such file"
    assert message(tmp_path).startswith("no weights in this folder (looked for .pth, ") and "it is empty" in message(
        tmp_path
    )
    assert message("/").startswith("no weights in this folder (looked for .pth, ")
    (tmp_path / "file").touch()
    assert message(tmp_path / "file" / "a.pth") == "Not a directory"
    os.mkfifo(tmp_path / "pipe")
    assert message(tmp_path / "pipe") == message("/dev/zero") == "not a regular file; copy it to one"


def test_the_cause_of_damage_is_one_telling_sentence(tmp_path):
    data = saved({"w": torch.ones(2)}, **OLD)
    assert "unexpected EOF" in message_for(tmp_path, data[:-4])
    assert "the pickle ends early" in message_for(tmp_path, data[:100])
    assert "has no operation" in message_for(tmp_path, data.replace(b"X\x01\0\0\0w", b"\xee\x01\0\0\0w"))


@given(st.sampled_from(MAGICS), st.binary(max_size=200))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, magic, tail):
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    try:  # "{" and a few bytes may be a file of safetensors without tensors
        read_bytes(folder, magic + tail)
    except CheckpointError as error:
        assert str(error).startswith(f"{folder / 'a.pth'}: ") and str(error).isprintable()
