"""Whatever the input: exit status 2, one line that says what is wrong, nothing left behind, never a traceback."""

import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import ROOT, SMALL_CHECKPOINT
from tests.helpers.legacy_files import convert, encoder_part, refusal, tiny_state, tree, write_legacy

COMMAND = [sys.executable, str(ROOT / "conversion" / "convert_ckpt.py")]
OLD = {"_use_new_zipfile_serialization": False}
WEIGHT, BIAS, COUNTER = "encoder.layer1.0.conv2.weight", "encoder.fc.6.bias", "encoder.stem.1.num_batches_tracked"


class MakesAFile:
    """A pickle that creates the file `executed` when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def changed(name, change):
    """A tiny checkpoint with one tensor changed, or removed where the change gives None."""
    state = tiny_state()
    state[name] = change(state[name])
    return saved({name: tensor for name, tensor in state.items() if tensor is not None})


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_pkl", ".pkl"), data)
    return buffer.getvalue()


def torchscript():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Identity()), buffer)
    return buffer.getvalue()


# Name → (what makes the bytes, what is said).
BAD_FILES = {
    "empty": (bytes, "the file is empty"),
    "truncated zip": (lambda: saved(tiny_state())[:90_000], "damaged or truncated"),
    "truncated old format": (lambda: saved(tiny_state(), **OLD)[:50_000], "damaged"),
    "text": (lambda: b"epoch 1\n", "a text file"),
    "JSON": (lambda: json.dumps({"epoch": 1}).encode(), "a JSON file"),
    "Git LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run `git lfs pull`"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "zip of something else": (lambda: zipped(notes="hello"), "a zip archive but not a PyTorch checkpoint"),
    "TorchScript": (torchscript, "Identity without tensors, expected a dictionary with a state dict"),
    "tensor alone": (lambda: saved(torch.ones(2)), "holds a single tensor, expected a dictionary"),
    "another module": (lambda: saved(torch.nn.Linear(1, 1)), "a pickled Linear, which is no network of a known family"),
    "another module, old format": (lambda: saved(torch.nn.Linear(1, 1), **OLD), "a pickled Linear, which is no"),
    "another module, pickled": (lambda: pickle.dumps(torch.nn.Linear(1, 1)), "no network of a known family"),
    "payload": (lambda: saved({"model_state_dict": MakesAFile()}), "it names posix.mkdir, which was not imported"),
    "payload, old format": (lambda: saved({"a": MakesAFile()}, **OLD), "posix.mkdir, which was not imported"),
    "payload, pickled": (lambda: pickle.dumps({"a": MakesAFile()}), "posix.mkdir, which was not imported"),
    "ResNet": (lambda: saved({"conv1.weight": torch.ones(1)}), "no whole network of a known family; the nearest"),
    "multimodal": (lambda: saved({"text_encoder.x": torch.ones(1)}), "not a whole legacy multimodal encoder (0 of"),
    "no state dict": (lambda: saved({"epoch": 1}), "holds no state dict; at its top are 'epoch'"),
    "missing key": (lambda: changed(WEIGHT, lambda t: None), f"missing '{WEIGHT}'"),
    "extra key": (lambda: saved(tiny_state() | {"encoder.x": torch.ones(1)}), "unexpected 'encoder.x'"),
    "wrong shape": (lambda: changed(WEIGHT, lambda t: t[:, :1]), "has shape [2, 1, 3, 3], expected [2, 2, 3, 3]"),
    "NaN": (lambda: changed(BIAS, lambda t: t * torch.nan), f"{BIAS} holds NaN or infinity"),
    "infinity": (lambda: changed(BIAS, lambda t: t - torch.inf), f"{BIAS} holds NaN or infinity"),
    "integers": (lambda: changed(WEIGHT, torch.Tensor.long), f"{WEIGHT} holds int64, expected floating-point numbers"),
    "complex counter": (lambda: changed(COUNTER, lambda t: t.to(torch.complex64)), "complex64, expected an integer"),
    "sparse": (lambda: changed(WEIGHT, torch.Tensor.to_sparse), f"{WEIGHT} is a sparse"),
    "8 bits": (lambda: changed(WEIGHT, lambda t: t.to(torch.float8_e5m2)), f"{WEIGHT} holds float8_e5m2"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, said = BAD_FILES[kind]
    (tmp_path / "a.pth").write_bytes(make())
    before = tree(tmp_path)
    line = refusal("a.pth")
    assert said in line and "a.pth: " in line
    assert tree(tmp_path) == before  # no output, nothing hidden, nothing executed


def test_a_payload_beside_good_weights_is_named_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").write_bytes(saved({"model_state_dict": tiny_state(), "x": MakesAFile()}))
    assert "classes named in the file, none of them imported: posix.mkdir" in convert("a.pth")
    assert sorted(os.listdir()) == ["a-hf", "a.pth"]


def test_a_safetensors_file_converts_too(tmp_path):
    save_file(encoder_part(tiny_state()), tmp_path / "model.safetensors")
    assert "bare state dict, depth-encoder" in convert(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("wrapping", "options", "said"),
    [
        ("training", ["--layout", "depth-encoder"], "its layout is depth-autoencoder, not depth-encoder"),
        ("extracted", ["--layout", "depth-autoencoder"], "its layout is depth-encoder, not depth-autoencoder"),
        ("training", ["--latent-dim", "768"], "the file says 12, not --latent-dim 768; leave the option out"),
        ("training", ["--latent-dim", "0"], "the file says 12, not --latent-dim 0"),
        ("bare encoder", ["--input-channels", "3"], "the file says 1, not --input-channels 3; leave the option out"),
        ("wrapper class", ["--include-decoder"], "holds no decoder; leave --include-decoder out"),
        ("training", ["--layout", "vgg"], "invalid choice: 'vgg'"),
        ("training", ["--dtype", "int8"], "invalid choice: 'int8'"),
        ("training", ["--latent-dim", "many"], "invalid int value: 'many'"),
        ("training", ["--verify", "."], "give either a CHECKPOINT to convert or --verify REPO"),
        ("training", ["--against", __file__], "--against goes with --verify"),
        ("training", ["--speed"], "convert_ckpt.py: no option --speed (see --help)"),
    ],
)
def test_arguments_that_contradict(wrapping, options, said, tmp_path):
    checkpoint = write_legacy(tmp_path / "a.pth", wrapping)
    assert said in refusal(checkpoint, *options)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_no_arguments_and_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "give either a CHECKPOINT to convert or --verify REPO" in refusal()
    assert refusal("none.pth") == "error: none.pth: no such file\n"
    assert "no such file" in refusal("a\nb.pth")  # one line all the same
    for folder in (tmp_path, ".", "/"):
        assert "no weights in this folder (looked for .pth, " in refusal(folder)
    os.mkfifo("pipe")
    for endless in ("pipe", "/dev/zero"):
        assert "not a regular file" in refusal(endless, "--output", "out")
    assert os.listdir() == ["pipe"]


def test_weights_too_large_for_float16(tmp_path):
    state = tiny_state()
    checkpoint = write_legacy(tmp_path / "a.pth", state=state | {BIAS: state[BIAS] + 1e5})
    assert f"{BIAS} does not fit into float16; choose bfloat16 or float32" in refusal(checkpoint, "--dtype", "float16")
    assert list(tmp_path.iterdir()) == [checkpoint]
    convert(checkpoint, "--dtype", "bfloat16")


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
@pytest.mark.parametrize("there", ["repo", "file", "folder of others", "link to nothing", "checkpoint's own folder"])
def test_outputs_that_exist(there, options, tmp_path):
    checkpoint, output = write_legacy(tmp_path / "a.pth"), tmp_path / "out"
    output.touch() if there == "file" else output.symlink_to("none") if "link" in there else output.mkdir()
    if there == "folder of others":
        (output / "notes.txt").touch()
    elif output.is_dir():
        (output / "config.json").write_text("{}")
    if there == "checkpoint's own folder":
        checkpoint = checkpoint.rename(output / "a.pth")
    before = tree(tmp_path)
    if there == "repo" and options:
        convert(checkpoint, "--output", output, "--no-verify", *options)
        assert (output / "model.safetensors").is_file()
        return
    said = "lies in" if "own" in there else "not a folder with a model, so it is not overwritten"
    assert (said if options else "exists already; choose another --output, or give --overwrite") in refusal(
        checkpoint, "--output", output, *options
    )
    assert tree(tmp_path) == before


@pytest.mark.parametrize("output", ["/proc/none/out", "a.pth/out", "a.pth/deeper/out", "/dev/null/out", "o" * 256])
def test_unwritable_outputs(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_legacy("a.pth")
    line = refusal("a.pth", "--output", output)
    assert output in line and ("cannot be written" in line or "name too long" in line or "Not a directory" in line)
    assert os.listdir() == ["a.pth"]


def full_disk(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize(("file", "limit"), [("weights", 20_000), ("report", 50_000)])
def test_no_room_for_a_file_in_a_process_of_its_own(file, limit, tmp_path):
    source = tmp_path / "a.pth"
    torch.save({"model_state_dict": tiny_state(), "note": 50_000 * "x"}, source)  # the report has the note
    before = tree(tmp_path)
    command = [*COMMAND, str(source), "--output", str(tmp_path / "out"), "--no-verify"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: full_disk(limit))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path / 'out'}: cannot be written (") and done.stderr.count("\n") == 1
    assert tree(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full(small_disk):
    line = refusal(SMALL_CHECKPOINT, "--output", small_disk / "out")
    assert f"{small_disk / 'out'}: cannot be written (" in line and list(small_disk.iterdir()) == []
    (small_disk / "ballast").write_bytes(bytes(5_200_000))
    assert "cannot be written" in refusal(write_legacy(small_disk.parent / "a.pth"), "--output", small_disk / "out")
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [("a.pth", b"hello", "a text file"), ("caf\udce9.pth", pickle.dumps(MakesAFile()), "posix.mkdir")],
    ids=["text", "payload"],
)
def test_a_real_process_says_one_line(name, data, said, tmp_path):
    (tmp_path / name).write_bytes(data)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*COMMAND, name], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "") and os.listdir(tmp_path) == [name]
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and said in done.stderr


def test_what_a_terminal_cannot_show_does_not_fail_a_finished_conversion(tmp_path):
    write_legacy(tmp_path / "caf\udce9.pth", **OLD)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, "caf\udce9.pth", "--output", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "") and "\\u2192" in done.stdout
