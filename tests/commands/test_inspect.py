"""hf-encoders inspect: what is in a file, of a known family or not, without reading its weights."""

import json
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from hf_encoders.checkpoints.checkpoint import TensorHandle
from hf_encoders.commands.main import command
from tests.helpers.encoder_files import ResNet
from tests.helpers.legacy_files import refusal, run_command, tiny_state, tree, write_legacy
from tests.helpers.multimodal_files import adamw_state, multimodal_state

S = tiny_state()


def inspected(*words):
    """What the command prints, as JSON and as lines; it reads no values and writes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TensorHandle, "read", lambda handle: pytest.fail("values were read"))
        status, out, err = run_command(command, "inspect", *words, "--json")
        assert status == 0, err
        status, lines, err = run_command(command, "inspect", *words)
        assert status == 0, err
    return json.loads(out), lines


def saved(folder, content):
    torch.save(content, folder / "a.pth")
    return folder / "a.pth"


def test_a_training_checkpoint_is_told_whole(tmp_path):
    path = saved(
        tmp_path,
        {
            "epoch": 3,
            "model": {f"module.{name}": tensor for name, tensor in S.items()} | {"module.total_ops": torch.ones(1)},
            "model_ema": S,
            "optimizer": adamw_state(multimodal_state()),
            "lr_scheduler": {"last_epoch": 3},
            "discriminator": {"conv.weight": torch.ones(4, 1, 3, 3, dtype=torch.float16), "conv.bias": torch.ones(4)},
            "loss": torch.tensor(0.5),
        },
    )
    found, lines = inspected(path)
    assert found["container"] == "PyTorch zip" and found["bytes"] == path.stat().st_size and found["classes"] == []
    assert 0 < found["bytes_read"] < found["bytes"]
    count = sum(tensor.numel() for name, tensor in S.items() if ".running_" not in name and tensor.is_floating_point())
    integers = sum(not tensor.is_floating_point() for tensor in S.values())
    model, average, other = found["weights"]
    assert model == {
        "path": "model.module", "family": "depth-autoencoder", "stored_as": "state dict", "average": False,
        "prefix": "module.", "tensors": len(S), "parameters": count,
        "dtypes": {"float32": len(S) - integers, "int64": integers},
        "bytes": sum(tensor.nbytes for tensor in S.values()), "left_overs": ["module.total_ops"], "note": "",
        "names": list(S), "nearest": {},
    }  # fmt: skip
    assert average["path"] == "model_ema" and average["average"] and average["family"] == "depth-autoencoder"
    assert other["path"] == "discriminator" and other["family"] is None and other["tensors"] == 2
    assert other["dtypes"] == {"float16": 1, "float32": 1} and other["bytes"] == 4 * 9 * 2 + 4 * 4
    (optimizer,), (scheduler,) = found["optimizer"], found["training"]
    assert optimizer["path"] == "optimizer" and optimizer["tensors"] > 100
    assert scheduler == {"path": "lr_scheduler", "tensors": 0, "bytes": 0}
    assert found["metadata"] == {"epoch": 3, "loss": "an array of shape []"}
    for said in (
        f"{path}: PyTorch zip, ",
        f"  model.module: depth-autoencoder, state dict, 457 tensors, {count:,} parameters, ",
        "prefix module., left-overs module.total_ops\n",
        "  model_ema: depth-autoencoder, an average, ",
        "  discriminator: of no known family, state dict, 2 tensors, 40 parameters, 1 float16, 1 float32, 88 bytes\n"
        "    names: conv.weight, conv.bias\n",
        "optimizer:\n  optimizer: ",
        "metadata:\n  epoch: 3\n",
    ):
        assert said in lines


def test_paths_are_those_that_convert_takes(tmp_path):
    path = saved(tmp_path, {"runs": {"v1.0": {"net": S}, "v1.1": [{"net": S}]}})
    found, _ = inspected(path)
    assert [weights["path"] for weights in found["weights"]] == ['runs."v1.0".net', 'runs."v1.1".0.net']
    for number, weights in enumerate(found["weights"]):
        output = tmp_path / str(number)
        status, out, err = run_command(
            command, "convert", path, "--weights", weights["path"], "--output", output, "--no-verify"
        )
        assert status == 0 and f"weights: {weights['path']}\n" in out, err


@pytest.mark.parametrize(
    ("content", "family", "note"),
    [
        (S, "depth-autoencoder", ""),
        (multimodal_state(), "multimodal-encoder", ""),
        ({n: t for n, t in S.items() if n.startswith("encoder.")}, "depth-encoder", ""),
        (torch.nn.Linear(2, 2), None, ""),
        (torch.nn.Linear(2, 2).state_dict(), None, ""),
        ({"fc.lora_A.weight": torch.ones(2, 2)}, None, "LoRA"),
        ({"fc.weight_g": torch.ones(2, 1), "fc.weight_v": torch.ones(2, 2)}, None, "weight_norm"),
        ({"module": {name: torch.empty(0) for name in multimodal_state()}}, "multimodal-encoder", "zero_to_fp32"),
        ([torch.ones(2, 2)], None, ""),
        (torch.ones(2, 2), None, ""),
    ],
)
def test_any_file_is_told(content, family, note, tmp_path):
    found, _ = inspected(saved(tmp_path, content))
    (weights,) = found["weights"]
    assert weights["family"] == family and note in weights["note"]


@pytest.mark.parametrize(
    "content", [{}, [], "text", {"epoch": 1}, None, {"optimizer": {"state": {}, "param_groups": []}}]
)
def test_files_without_weights_are_told(content, tmp_path):
    found, lines = inspected(saved(tmp_path, content))
    assert found["weights"] == [] and "weights:\n  none\n" in lines


def test_tied_tensors_count_once(tmp_path):
    weight = torch.ones(10, 10)
    found, _ = inspected(saved(tmp_path, OrderedDict(a=weight, b=weight)))
    (weights,) = found["weights"]
    assert (weights["tensors"], weights["parameters"], weights["bytes"]) == (2, 100, 400)


def test_other_kinds_of_files_are_told(tmp_path):
    save_file(S, tmp_path / "model.safetensors")
    found, _ = inspected(tmp_path / "model.safetensors")
    assert found["container"] == "safetensors" and found["weights"][0]["family"] == "depth-autoencoder"
    found, _ = inspected(write_legacy(tmp_path / "old.pth", _use_new_zipfile_serialization=False))
    assert found["container"] == "PyTorch old format" and found["optimizer"][0]["path"] == "optimizer_state_dict"


def test_what_the_file_says_does_no_harm_in_the_terminal(tmp_path):
    evil = "\x1b]0;title\x07\u202e<!-- end: title -->"
    path = saved(tmp_path, {evil: {f"{evil}.weight": torch.ones(2, 2)}, f"note {evil}": evil, "home": "/home/anna/x"})
    found, lines = inspected(path)
    text = json.dumps(found, ensure_ascii=False) + lines.replace("\n", "")
    assert text.isprintable() and "<!--" not in text and "anna" not in text


def test_what_cannot_be_read_ends_in_one_line(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"hello")
    before = tree(tmp_path)
    assert "a.pth: a text file" in refusal("inspect", tmp_path / "a.pth", main=command)
    assert "none.pth: no such file" in refusal("inspect", tmp_path / "none.pth", main=command)
    assert tree(tmp_path) == before


def test_weights_of_other_families_are_told(tmp_path):
    resnet = ResNet().state_dict()
    near = {name: tensor for name, tensor in resnet.items() if "bn1.running_mean" not in name}
    names = {f"conv_stem.{number}.weight": torch.ones(2, 2) for number in range(9)}
    found, lines = inspected(saved(tmp_path, {"a": resnet, "b": near, "c": names}))
    assert [weights["family"] for weights in found["weights"]] == ["resnet", None, None]
    assert found["weights"][1]["nearest"]["resnet"] == len(near) and found["weights"][2]["nearest"] == {}
    assert "  a: resnet, state dict, " in lines and f"    nearest: resnet ({len(near)} names match)" in lines
    assert "names: conv_stem.0.weight, " in lines and "conv_stem.5.weight and 3 more\n" in lines
