"""Reading .pth files: what can be read, that nothing in them is executed, and what is said of the rest."""

import io
import os
import pickle
import re
import threading
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_encoders.checkpoints.files import CheckpointError, read_checkpoint

OLD = {"_use_new_zipfile_serialization": False}


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


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


class Runs:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


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
    with zipfile.ZipFile(io.BytesIO(saved({"w": weight}))) as old:
        with zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
    assert torch.equal(read_checkpoint(tmp_path / "b.pth")["w"], weight)


def test_large_files_are_mapped_not_copied(tmp_path):
    torch.save({"w": torch.zeros(1 << 20)}, tmp_path / "a.pth")
    weight = read_checkpoint(str(tmp_path / "a.pth"))["w"]
    with open("/proc/self/maps") as maps:
        assert str(tmp_path / "a.pth") in maps.read()
    weight += 1  # a private map: the file stays as it is
    assert read_checkpoint(tmp_path / "a.pth")["w"].sum() == 0


@pytest.mark.parametrize("options", [{}, OLD, {"pickle_protocol": 4}, "bare pickle"])
@pytest.mark.parametrize("function", [os.mkdir, os.system, eval, exec, getattr, torch.load, np.load, threading.Timer])
def test_nothing_in_a_file_is_executed(function, options, tmp_path):
    target = tmp_path / "executed"
    argument = str(target) if function is os.mkdir else f"__import__('os').mkdir({str(target)!r})"
    argument = f"mkdir {target}" if function is os.system else argument
    content = {"model_state_dict": {"w": Runs(function, argument)}}
    data = pickle.dumps(content) if options == "bare pickle" else saved(content, **options)
    text = message_for(tmp_path, data)
    assert not target.exists()
    assert re.match(
        rf"refused, because the file asks to load ([\w.]+\.)?{function.__name__}, which could run code;", text
    )


def test_a_whole_module_is_refused_by_name(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(1, 1))
    for data in (saved(module), saved(module, **OLD), saved({"model": module}), pickle.dumps(module)):
        text = message_for(tmp_path, data)
        assert "whole pickled module (torch.nn.modules.container.Sequential)" in text and "state_dict()" in text


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
        (b"\x02\0\0\0\0\0\0\0{}", "safetensors.torch.load_file"),
        (b"\0\1\2\3" * 99, "neither a zip archive nor a pickle"),
        (b"\xff\xfe\xfd", "neither a zip archive nor a pickle"),
        (b"PK\x03\x04" + b"\0" * 99, "damaged or truncated"),
        (saved({"w": torch.ones(99)})[:-50], "damaged or truncated"),
        (saved({"w": torch.ones(99)}, **OLD)[:-50], "damaged"),
        (b"\x80\x02", "damaged"),
        (b"\x80\x02.", "damaged"),
        (pickle.dumps([1, 2], 2), "damaged, or not a PyTorch checkpoint"),
        (saved([torch.ones(1)]), "holds a list, expected a dictionary"),
        (saved(torch.ones(1), **OLD), "holds a Tensor, expected a dictionary"),
    ],
)
def test_other_files_are_told_apart(data, said, tmp_path):
    assert said in message_for(tmp_path, data)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_archives_are_told_apart(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert "a zip archive but not a PyTorch checkpoint" in message(tmp_path / "a.pth")
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1, 1)), tmp_path / "b.pth")
    assert "a TorchScript archive; save the original model's state_dict()" in message(tmp_path / "b.pth")
    with zipfile.ZipFile(tmp_path / "c.pth", "w") as archive:
        archive.writestr("c/data.pkl", b"\x80\x02.")
    assert "damaged" in message(tmp_path / "c.pth")


def test_what_is_no_file_is_told_apart(tmp_path):
    assert message(tmp_path / "none.pth") == "no such file"
    assert f"such as {tmp_path}/best_model.pth" in message(tmp_path)
    assert "No such file" not in message("/") and "/best_model.pth" in message("/")
    (tmp_path / "file").touch()
    assert message(tmp_path / "file" / "a.pth") == "Not a directory"
    os.mkfifo(tmp_path / "pipe")
    assert message(tmp_path / "pipe") == message("/dev/zero") == "not a regular file; copy it to one"


def test_the_cause_of_damage_is_one_telling_sentence(tmp_path):
    data = saved({"w": torch.ones(2)}, **OLD)
    text = message_for(tmp_path, data.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_xx"))
    assert "torch._utils._rebuild_tensor_xx" in text
    assert "unexpected EOF" in message_for(tmp_path, data[:-4])
    for protocol in (3, 4, 5):  # of a newer protocol, and nothing in it that could run code
        text = message_for(tmp_path, saved({"w": torch.ones(2), "loss": np.ones(2)}, pickle_protocol=protocol))
        assert "another pickle protocol than PyTorch's 2; save it again" in text


@given(st.sampled_from(MAGICS), st.binary(max_size=200))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, magic, tail):
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    message_for(folder, magic + tail)
