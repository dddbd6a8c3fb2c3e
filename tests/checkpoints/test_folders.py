"""Folders that are one checkpoint, files of safetensors and .npz: read lazily, or refused in one line."""

import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save, save_file

from hf_encoders.checkpoints.checkpoint import Stub
from hf_encoders.checkpoints.files import CheckpointError, open_checkpoint
from tests.helpers.checkpoint_samples import Settings, repacked, saved

TENSORS = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3).half(), "b": torch.tensor(5)}


def message(path):
    with pytest.raises(CheckpointError) as caught:
        for handle in open_checkpoint(path).content.values():
            handle.read()
    text = str(caught.value)
    assert text.isprintable()
    return text


def equal(found, expected=TENSORS):
    assert list(found) == list(expected)
    return all(torch.equal(found[name].read(), expected[name]) for name in expected)


def write_shards(folder, kind="bin", write=torch.save):
    stem = "model" if kind == "safetensors" else "pytorch_model"
    shards = {name: f"{stem}-0000{1 + (name == 'b')}-of-00002.{kind}" for name in TENSORS}
    for shard in set(shards.values()):
        write({name: TENSORS[name] for name in TENSORS if shards[name] == shard}, folder / shard)
    index = folder / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shards}))
    return index


@pytest.mark.parametrize(("kind", "write"), [("bin", torch.save), ("safetensors", save_file)])
def test_shards_are_read_by_their_index(kind, write, tmp_path):
    write_shards(tmp_path, kind, write)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.container == "folder of shards" and equal(checkpoint.content)


def test_shards_that_are_wrong_are_refused(tmp_path):
    index = write_shards(tmp_path)
    shard = tmp_path / "pytorch_model-00001-of-00002.bin"
    assert f"one shard of 2; give its folder {tmp_path}, which has their index" in message(shard)
    whole, content = shard.read_bytes(), json.loads(index.read_text())
    torch.save({"a.bias": TENSORS["a.bias"]}, shard)
    assert "names 'a.weight' (pytorch_model-00001-of-00002.bin), which is not in that file" in message(tmp_path)
    shard.write_bytes(whole[:-20])
    assert "damaged or truncated" in message(tmp_path)
    shard.unlink()
    assert f"{tmp_path}: the shard pytorch_model-00001-of-00002.bin is missing" in message(tmp_path)
    for outside in ("../x.bin", "/etc/passwd", "a/../../x.bin"):
        index.write_text(json.dumps({"weight_map": content["weight_map"] | {"b": outside}}))
        assert "is missing" in message(tmp_path) or "which is not in its folder; it is refused" in message(tmp_path)
    index.write_text(json.dumps({"weight_map": {"b": "../x.bin"}}))
    assert "names the file '../x.bin', which is not in its folder; it is refused" in message(tmp_path)
    for text, said in (("{", "not JSON"), ("[" * 100_000, "not JSON"), ("{}", "has no weight_map")):
        index.write_text(text)
        assert said in message(tmp_path)
    index.unlink()
    assert "one shard of 2; give the folder with their index" in message(tmp_path / "pytorch_model-00002-of-00002.bin")


def test_a_deepspeed_folder_is_read(tmp_path):
    (tmp_path / "global_step7").mkdir()
    (tmp_path / "latest").write_text("global_step7\n")
    states = tmp_path / "global_step7" / "mp_rank_00_model_states.pt"
    torch.save({"module": TENSORS, "ds_config": Settings(stage=2)}, states)
    for folder in (tmp_path, states.parent):
        checkpoint = open_checkpoint(folder)
        assert checkpoint.container == "DeepSpeed folder" and equal(checkpoint.content["module"])
        assert checkpoint.classes == ("tests.helpers.checkpoint_samples.Settings",)
    states.with_name("mp_rank_01_model_states.pt").write_bytes(states.read_bytes())
    assert "the weights of 2 model-parallel processes" in message(tmp_path) and "zero_to_fp32" in message(tmp_path)
    states.rename(states.with_name("zero_pp_rank_0_mp_rank_00_model_states.pt"))
    assert "ZeRO stage 3, whose weights lie in parts; run DeepSpeed's `python zero_to_fp32.py" in message(tmp_path)
    (tmp_path / "latest").write_text("../elsewhere")
    assert "its file `latest` names '../elsewhere', which is not there" in message(tmp_path)


@pytest.fixture
def distributed(tmp_path):
    """A folder of torch.distributed.checkpoint."""
    folder = tmp_path / "distributed"
    dcp.save({"model": TENSORS, "epoch": 3, "args": Settings(lr=1)}, checkpoint_id=folder, no_dist=True)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_a_distributed_folder_is_read(distributed):
    checkpoint = open_checkpoint(distributed)
    assert checkpoint.container == "distributed checkpoint folder"
    content = checkpoint.content
    assert set(content) == {"model", "epoch", "args"} and content["epoch"] == 3
    assert equal({name: content["model"][name] for name in TENSORS})
    assert isinstance(content["args"], Stub) and content["args"].state == {"lr": 1}
    assert checkpoint.classes == ("tests.helpers.checkpoint_samples.Settings",)


def changed_metadata(folder, change):
    """Change what `.metadata` holds, as its own library reads it."""
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def split(metadata):
    """Say that a tensor lies in two chunks, one below the other."""
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

    entry = metadata.state_dict_metadata["model.a.weight"]
    entry.size = torch.Size([6, 4])
    entry.chunks = [ChunkStorageMetadata(torch.Size([start, 0]), torch.Size([3, 4])) for start in (3, 0)]
    place = next(info for index, info in metadata.storage_data.items() if index.fqn == "model.a.weight")
    for index in [index for index in metadata.storage_data if index.fqn == "model.a.weight"]:
        del metadata.storage_data[index]
    for start in (0, 3):
        metadata.storage_data[MetadataIndex("model.a.weight", torch.Size([start, 0]))] = place


@pytest.mark.filterwarnings("ignore")
def test_a_tensor_in_chunks_is_put_together(distributed):
    """Two chunks, in the order of two processes, each with a file of its own."""
    other = distributed / "__1_0.distcp"
    other.write_bytes((distributed / "__0_0.distcp").read_bytes())

    def change(metadata):
        split(metadata)
        import dataclasses

        index = next(index for index in metadata.storage_data if index.fqn == "model.a.weight" and index.offset[0] == 3)
        metadata.storage_data[index] = dataclasses.replace(metadata.storage_data[index], relative_path=other.name)

    changed_metadata(distributed, change)
    handle = open_checkpoint(distributed).content["model"]["a.weight"]
    assert torch.equal(handle.read(), torch.cat([TENSORS["a.weight"]] * 2))


def set_place(**values):
    def change(metadata):
        for index, info in metadata.storage_data.items():
            if index.fqn == "model.a.weight":
                info.__dict__.update(values)

    return change


def set_chunk(offsets, sizes, whole):
    def change(metadata):
        entry = metadata.state_dict_metadata["model.a.weight"]
        entry.size = torch.Size(whole)
        entry.chunks[0].__dict__.update(offsets=torch.Size(offsets), sizes=torch.Size(sizes))

    return change


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_place(relative_path="../secret"), "names a file outside of the folder; it is refused"),
        (set_place(relative_path="/etc/passwd"), "names a file outside of the folder; it is refused"),
        (set_place(relative_path="none.distcp"), "no such file"),
        (set_place(offset=1 << 40), "reaches beyond it"),
        (set_place(length=-1), "reaches beyond it"),
        (set_place(offset=3), "damaged"),
        (set_place(transform_descriptors=["zstd"]), "compressed by an extension"),
        (set_chunk([0, 0], [3, 4], [4, 4]), "do not fill it"),
        (set_chunk([0, 0], [4, 4], [3, 4]), "reaches beyond it"),
        (set_chunk([0, 0], [1 << 20, 1 << 20], [1 << 20, 1 << 20]), "larger than its parts"),
        (set_chunk([0, 0], [4, 3], [4, 3]), "a chunk is not what the metadata says"),
        (lambda metadata: metadata.storage_data.clear(), "is not where the metadata says"),
    ],
)
def test_metadata_that_is_wrong_is_refused(change, said, distributed):
    changed_metadata(distributed, change)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(distributed).content["model"]["a.weight"].read()
    assert said in str(caught.value) and str(caught.value).isprintable()


def test_metadata_that_is_none_is_refused(tmp_path):
    for data in (b"", b"\x80\x02}.", b"\x80\x02N.", b"hello", pickle.dumps(Settings(state_dict_metadata={}))):
        (tmp_path / ".metadata").write_bytes(data)
        assert "damaged" in message(tmp_path)


def test_other_folders_list_what_they_have(tmp_path):
    looked_for = f"{tmp_path}: no weights in this folder (looked for .pth, .pt, .bin, "
    assert message(tmp_path).startswith(looked_for) and message(tmp_path).endswith("; it is empty")
    (tmp_path / "weights").mkdir()
    for name in ("README.md", "a.txt"):
        (tmp_path / name).touch()
    assert message(tmp_path).endswith("; it has README.md, a.txt, weights/")
    for number in range(7):
        torch.save(TENSORS, tmp_path / f"{number}.pth")
    said = f"expected a checkpoint file such as {tmp_path}/0.pth (it has 0.pth, 1.pth, 2.pth, 3.pth, 4.pth and 2 more)"
    assert said in message(tmp_path)


def test_safetensors_are_read_under_any_name(tmp_path):
    (tmp_path / "a.pth").write_bytes(save(TENSORS, {"format": "pt"}))
    checkpoint = open_checkpoint(tmp_path / "a.pth")
    assert checkpoint.container == "safetensors" and equal({name: checkpoint.content[name] for name in TENSORS})
    (tmp_path / "b.pth").write_bytes(save(TENSORS, {"epoch": "3"}))
    assert open_checkpoint(tmp_path / "b.pth").content["__metadata__"] == {"epoch": "3"}


def header(**entry):
    data = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry}).encode()
    return struct.pack("<Q", len(data)) + data + bytes(8)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header(data_offsets=[0, 9]), "a place that its shape does not fit"),
        (header(data_offsets=[8, 16]), "a place that its shape does not fit"),
        (header(data_offsets=[-8, 0]), "a place that its shape does not fit"),
        (header(data_offsets=[8, 0]), "a place that its shape does not fit"),
        (header(shape=[1 << 40, 1 << 40]), "a place that its shape does not fit"),
        (header(shape=[-2]), "a strange shape"),
        (header(shape=[True]), "a strange shape"),
        (header(shape=[1] * 65), "a strange shape"),
        (header(dtype="F6_E2M3"), "has the dtype 'F6_E2M3', which PyTorch does not have"),
        (header(dtype=[]), "no description of a tensor"),
        (struct.pack("<Q", 4) + b"{}}}" + bytes(9), "not JSON"),
        (struct.pack("<Q", 200_002) + b'{"a":' + b"[" * 200_000 + bytes(9), "not JSON"),
        (struct.pack("<Q", 14) + b'{"a":1,"a":1} ' + bytes(9), "has a name twice"),
    ],
)
def test_safetensors_that_are_wrong_are_refused(data, said, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(data)
    assert said in message(tmp_path / "a.safetensors")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz_archives_are_read(write, tmp_path):
    arrays = {
        "c": np.arange(6, dtype="f4").reshape(2, 3),
        "C": np.ones(2),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "half": np.ones(3, "f2"),
        "scalar": np.array(3),
        "empty": np.empty((0, 3), "f4"),
        "names": np.array(["x", "yy"]),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "random": np.random.default_rng(0).random((3, 5)),  # its first block has a code of its own
    }
    write(tmp_path / "a.npz", **arrays)
    checkpoint = open_checkpoint(tmp_path / "a.npz")
    assert checkpoint.container == "NumPy .npz" and list(checkpoint.content) == list(arrays)
    for name in ("random", "c", "C", "fortran", "big", "half", "scalar", "empty"):
        np.testing.assert_array_equal(checkpoint.content[name].read().numpy(), arrays[name])
    assert checkpoint.content["names"] == ["x", "yy"] and checkpoint.content["objects"] == [{"a": 1}, None]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"<f4", b"<f8"), (b"(2, 3)", b"(9, 3)"), (b"<f4", b"V4 "), (b"\x93NUMPY", b"\x93NUMPX"), (b"'<f4'", b"[0]  ")],
)
def test_npz_archives_that_are_wrong_are_refused(old, new, tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones((2, 3), "f4"))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(repacked(data, zipfile.ZIP_STORED, lambda name, record: record.replace(old, new)))
    assert message(tmp_path / "a.npz").startswith(f"{tmp_path / 'a.npz'}: ")


def test_nothing_of_the_values_is_read_before_it_is_asked_for(tmp_path):
    (tmp_path / "a.pth").write_bytes(saved({"w": torch.ones(1 << 20), "v": torch.ones(1 << 20)}))
    checkpoint = open_checkpoint(tmp_path / "a.pth")
    assert 0 < checkpoint.pickles_read < 5000
    for path in (tmp_path / "a.safetensors", tmp_path / "a.npz"):
        save_file({"w": torch.ones(1 << 20)}, path) if path.suffix != ".npz" else np.savez(path, w=np.ones(1 << 20))
        assert 0 < open_checkpoint(path).pickles_read < 5000
