"""Files that are no checkpoint: one line says what each is and what to do, and the command in it works."""

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from hf_encoders.checkpoints.files import CheckpointError, open_checkpoint
from tests.helpers.checkpoint_samples import OLD, saved, script

CONTENT = {"w": torch.arange(100.0)}
DATA = saved(CONTENT)


def message(path):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and text.isprintable()
    return text.removeprefix(f"{path}: ")


def tar(name="ckpt/best model.pth", data=DATA, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for member, content in (("ckpt/readme.txt", b"hello"), (name, data)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), data)
    return buffer.getvalue()


def frozen():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2)).eval()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.script(module)), buffer)
    return buffer.getvalue()


PAGE = b"<!DOCTYPE html>\n<html><head><title>Google Drive -\n Quota exceeded</title></head></html>"
NAMED = {
    "gzip": (lambda: gzip.compress(DATA), "packed with gzip; unpack it with `gzip -dc "),
    "xz": (lambda: lzma.compress(DATA), "packed with xz; "),
    "bzip2": (lambda: bz2.compress(DATA), "packed with bzip2; "),
    "zstd": (lambda: b"\x28\xb5\x2f\xfd" + bytes(99), "packed with zstd; "),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(99), "a 7z archive; unpack it with `7z x "),
    "tar": (tar, "a tar archive around 'ckpt/best model.pth'; unpack it with `tar -xf "),
    "tar, gzip": (lambda: tar(mode="w:gz"), "a tar archive packed with gzip; unpack it with `tar -xf "),
    "tar, long name": (lambda: tar("deep/" * 40 + "a.pth"), f"a tar archive around '{'deep/' * 40}a.pth'; "),
    "tar of PyTorch": (
        lambda: old_tar(),
        "the tar format of PyTorch before 0.1.10; save it again with a newer PyTorch",
    ),
    "zip": (lambda: zipped(ckpt__best_pth=DATA), "a zip archive around 'ckpt/best.pth'; unpack it with `unzip "),
    "zip of others": (lambda: zipped(notes_txt="hello"), "a zip archive but not a PyTorch checkpoint"),
    "zip of two": (lambda: zipped(a__data_pkl=b"N.", b__data_pkl=b"N."), "a zip archive with several checkpoints ("),
    "Keras": (lambda: zipped(config_json="{}", model_weights_h5=b""), "a Keras model, not"),
    "frozen TorchScript": (frozen, "a frozen TorchScript archive, which no longer tells"),
    "old TorchScript": (lambda: zipped(m__model_json="{}", m__tensors__0=b"1"), "archive of PyTorch before 1.4"),
    "web page": (lambda: PAGE, "a web page ('Google Drive - Quota exceeded') in place of the file"),
    "web page of spaces": (lambda: b"<html><title>" + b" " * 4000, "a web page in place of the file"),
    "error of spaces": (lambda: b"<Error><Code>" + b" " * 4000, "an XML file"),
    "web page without a title": (lambda: b" <html>", "a web page in place of the file"),
    "object store": (
        lambda: b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>',
        "an error of an object store (AccessDenied) in place of the file; download it again",
    ),
    "XML": (lambda: b'<?xml version="1.0"?><a/>', "an XML file"),
    "Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "run `git lfs pull`"),
    "git-annex": (lambda: b"/annex/objects/SHA256E-s1--0.pth\n", "run `git annex get`"),
    "DVC": (lambda: b"outs:\n- md5: 0\n  path: a.pth\n", "run `dvc pull`"),
    "text that names a file": (lambda: b"../runs/best_model.pth\n", "give that one: ../runs/best_model.pth"),
    "text": (lambda: b"epoch 1\n", "a text file, not a PyTorch checkpoint"),
    "text with a mark": (lambda: "\ufeffepoch".encode(), "a text file"),
    "text like a pickle": (lambda: b"(see the readme).", "a text file"),
    "JSON": (lambda: b'{"epoch": 1}', "a JSON file"),
    "index of shards": (lambda: b'{"weight_map": {}}', "an index of shards; give its folder"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "GGUF": (lambda: b"GGUF" + bytes(99), "a GGUF file of llama.cpp"),
    "ONNX": (lambda: b"\x08\x08\x12\x07pytorch" + bytes(99), "an ONNX model"),
    "msgpack": (lambda: b"\x81\xa6params\x81\xa1a\x01", "a msgpack file (Flax writes such)"),
    "TensorFlow": (lambda: bytes(range(64)) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "index of a TensorFlow checkpoint"),
    "TensorFlow Lite": (lambda: b"\x1c\0\0\0TFL3" + bytes(99), "a TensorFlow Lite model"),
    "one array": (lambda: npy(), "a single NumPy array"),
    "zeros": (lambda: bytes(10_000), "holds zeros in place of data"),
    "empty": (bytes, "the file is empty; copy or download it again"),
    "random": (lambda: b"\0\1\2\3" * 99, "neither a zip archive nor a pickle"),
    "old format of a big-endian machine": (
        lambda: re.sub(rb"(little_endianq.)\x88", rb"\1" + b"\x89", saved(CONTENT, **OLD), count=1),
        "the old format, written on a big-endian machine",
    ),
}  # fmt: skip


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


def old_tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", NAMED)
def test_a_file_of_another_kind_is_named(kind, tmp_path):
    make, said = NAMED[kind]
    (tmp_path / "a.pth").write_bytes(make())
    assert said in message(tmp_path / "a.pth")


def run(text, folder):
    """Run the command that a message gives between backticks."""
    command = re.search(r"`(.*)`", text).group(1)
    program = re.search(r"(?:&& )?(\w+) ", command.removeprefix("(cd ").partition("&& ")[2] or command).group(1)
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    subprocess.run(["sh", "-c", command], cwd=folder, check=True, capture_output=True)


def is_read(path):
    return torch.equal(open_checkpoint(path).content["w"].read(), CONTENT["w"])


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_the_command_that_unpacks_a_file_works(pack, tmp_path):
    (tmp_path / "it's a.pth").write_bytes(pack(DATA))
    run(message(tmp_path / "it's a.pth"), tmp_path)
    assert is_read(tmp_path / "unpacked-it's a.pth")


@pytest.mark.parametrize(
    ("pack", "inner"), [(tar, "ckpt/best model.pth"), (lambda: zipped(ckpt__best_pth=DATA), "ckpt/best.pth")]
)
def test_the_command_that_unpacks_an_archive_works(pack, inner, tmp_path):
    (tmp_path / "a.pth").write_bytes(pack())
    run(message(tmp_path / "a.pth"), tmp_path)
    assert is_read(tmp_path / inner)


@pytest.mark.parametrize(
    "names", [("a.pth.001", "a.pth.002"), ("a.pth.part1", "a.pth.part2"), ("a.pth.aa", "a.pth.ab")]
)
def test_the_command_that_joins_parts_works(names, tmp_path):
    data = saved({"w": CONTENT["w"], "more": torch.ones(999)})
    (tmp_path / names[0]).write_bytes(data[:2000])
    (tmp_path / names[1]).write_bytes(data[2000:])
    (tmp_path / "a.pth.md5").write_text("no part")
    for name in names:
        text = message(tmp_path / name)
        assert f"one of 2 parts; put them together with `(cd {tmp_path} && cat {' '.join(names)} > a.pth)`" in text
    run(text, tmp_path)
    assert is_read(tmp_path / "a.pth")


def test_a_checkpoint_whose_name_ends_with_a_number_is_none_of_several_parts(tmp_path):
    for name in ("model.001", "model.002"):
        (tmp_path / name).write_bytes(DATA)
        assert is_read(tmp_path / name)


def test_the_command_that_packs_an_unpacked_checkpoint_works(tmp_path):
    with zipfile.ZipFile(io.BytesIO(DATA)) as archive:
        archive.extractall(tmp_path)
    text = message(tmp_path / "archive")
    assert "an unpacked checkpoint (a folder with data.pkl); pack it again" in text
    run(text, tmp_path)
    assert is_read(tmp_path / "archive.pth")


def test_the_tensors_of_torchscript_are_read_as_a_modules(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    (tmp_path / "a.pt").write_bytes(script(module))
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    assert checkpoint.container == "TorchScript archive"
    inner = checkpoint.content.state["_modules"]
    assert torch.equal(inner["0"].state["_parameters"]["weight"].read(), module[0].weight)
    assert set(inner["1"].state["_parameters"]) == set(module[1].state_dict())


def test_what_is_no_file_is_told_apart(tmp_path):
    assert message(tmp_path / "none.pth") == "no such file"
    (tmp_path / "file").touch()
    assert message(tmp_path / "file" / "a.pth") == "Not a directory"
    os.mkfifo(tmp_path / "pipe")
    assert message(tmp_path / "pipe") == "not a regular file; copy it to one"
