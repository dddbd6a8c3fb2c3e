"""Every row of docs/checkpoints.md: files as people have them, and what happens to them."""

import argparse
import collections
import datetime
import enum
import gzip
import json
import pathlib
import pickle
import random
import re
import tarfile
import zipfile

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint
from safetensors.torch import load_file, save_file

from hf_encoders.hub.card_merging import split
from tests.conftest import ROOT
from tests.helpers.foreign_objects import absent_class, absent_module
from tests.helpers.legacy_files import convert, encoder_part, refusal, tiny_state, tree
from tests.helpers.multimodal_files import multimodal_state

PAGE = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| What people have")
]
S, M = tiny_state(), multimodal_state()
WEIGHT = "encoder.layer2.1.conv2.weight"
NO_TOKENIZER = ["--allow-no-tokenizer"]


def average(state):
    return {name: tensor + 0.5 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def renamed(state, change):
    return {change(name): tensor for name, tensor in state.items()}


def without(state, *endings):
    return {name: tensor for name, tensor in state.items() if not name.endswith(endings)}


def without_encoder(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith("encoder.")}


def part(state, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def objects_of_a_dead_repo():
    with absent_module("research.config") as module:
        mode = enum.Enum("Mode", {"A": 1}, module=module.__name__)
        module.Mode = mode
        criterion = absent_class(module, "Criterion")()
        criterion.w, criterion.bias = torch.ones(2), S["encoder.fc.6.bias"]
        yield {"model_state_dict": S, "mode": mode.A, "criterion": criterion}


def easy_dict():
    with absent_module("easydict") as module:
        config = absent_class(module, "EasyDict", dict)(image_size=96)
        config.image_size = 96  # it keeps its entries as attributes too
        yield {"model_state_dict": S, "config": config}


def dict_subclass():
    with absent_module("research.state") as module:
        yield {"state": absent_class(module, "StateDict", dict)(S)}


def circle():
    config = {"name": "tiny"}
    config["parent"] = {"child": config}
    return {"model_state_dict": S, "config": config}


def weights_in_a_circle():
    state = dict(S)
    state["encoder.parent"] = {"again": state}
    return {"model_state_dict": state}


def module_of(state, root):
    """A module with the tensors of a state dict, of a class that is gone once the file is written."""
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        node = root
        for key in path:
            if key not in node._modules:
                node.add_module(key, torch.nn.Module())
            node = node._modules[key]
        if tensor.is_floating_point() and not leaf.startswith("running"):
            node.register_parameter(leaf, torch.nn.Parameter(tensor.clone()))
        else:
            node.register_buffer(leaf, tensor)
    return root


def whole_module():
    with absent_module("models.autoencoder") as module:
        net = module_of(S, absent_class(module, "AutoEncoder", torch.nn.Module)())
        net.register_buffer("cache", torch.ones(3), persistent=False)
        yield {"epoch": 1, "model": torch.nn.DataParallel(net)}


def nested(state):
    """A dictionary of dictionaries, one for each module."""
    tree_of_modules = {}
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        node = tree_of_modules
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = tensor
    return tree_of_modules


def dual_encoder():
    state = {f"text_model.{name}": tensor for name, tensor in part(M, "text_encoder.").items()}
    state |= {f"vision_model.{name}": tensor for name, tensor in part(M, "visual_encoder.").items()}
    return state | {"logit_scale": torch.tensor(2.66), "text_projection.weight": M["text_projection.weight"]}


def with_weight_norm():
    state = without(S, "encoder.fc.6.weight")
    return {**state, "encoder.fc.6.weight_g": torch.ones(12, 1), "encoder.fc.6.weight_v": S["encoder.fc.6.weight"]}


def prefixed(prefix):
    return {"model_state_dict": renamed(S, lambda name: prefix + name)}


class Written:
    """A file or folder that is not made by a plain `torch.save`.

    Args:
        write: writes it into a folder, and gives its path.
    """

    def __init__(self, write):
        self.write = write


def in_file(**saving):
    def write(folder):
        torch.save({"model_state_dict": S}, folder / "a.pth", **saving)
        return folder / "a.pth"

    return Written(write)


@Written
def pickled_arrays(folder):
    (folder / "a.pkl").write_bytes(pickle.dumps({name: tensor.numpy() for name, tensor in S.items()}))
    return folder / "a.pkl"


@Written
def npz(folder):
    np.savez(folder / "a.npz", **{name: tensor.numpy() for name, tensor in S.items()})
    return folder / "a.npz"


def safetensors_file(name):
    def write(folder):
        save_file(S, folder / name)
        return folder / name

    return Written(write)


class Echo(torch.nn.Module):
    """A module that TorchScript takes."""

    def forward(self, x):
        """Give the input back."""
        return x


@Written
def torchscript(folder):
    torch.jit.script(module_of(S, Echo())).save(folder / "a.pt")
    return folder / "a.pt"


def write_shards(folder):
    names = list(S)
    parts = {f"pytorch_model-0000{number}-of-00002.bin": names[number - 1 :: 2] for number in (1, 2)}
    (folder / "shards").mkdir()
    for file, part in parts.items():
        torch.save({name: S[name] for name in part}, folder / "shards" / file)
    index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "shards" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder / "shards"


@Written
def deepspeed(folder):
    (folder / "run" / "global_step3").mkdir(parents=True)
    (folder / "run" / "latest").write_text("global_step3")
    content = {"module": M, "ds_version": "0.14", "optimizer": None}
    torch.save(content, folder / "run" / "global_step3" / "mp_rank_00_model_states.pt")
    return folder / "run"


@Written
def distributed(folder):
    torch.distributed.checkpoint.save({"model_state_dict": S}, checkpoint_id=folder / "run", no_dist=True)
    return folder / "run"


def good_file(folder):
    return in_file().write(folder)


def around(name):
    """A file with another one in it, of the kind that its suffix names."""

    def write(folder):
        good, path = good_file(folder), folder / name
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(good.read_bytes()))
        elif path.suffix == ".tar":
            with tarfile.open(path, "w") as archive:
                archive.add(good, "ckpt/best.pth")
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.write(good, "ckpt/best.pth")
        good.unlink()
        return path

    return Written(write)


@Written
def unpacked(folder):
    with zipfile.ZipFile(good_file(folder)) as archive:
        archive.extractall(folder)
    return folder / "a"


@Written
def first_part(folder):
    data = good_file(folder).read_bytes()
    (folder / "a.pth").unlink()
    (folder / "a.pth.001").write_bytes(data[: len(data) // 2])
    (folder / "a.pth.002").write_bytes(data[len(data) // 2 :])
    return folder / "a.pth.001"


def text_file(text):
    def write(folder):
        (folder / "a.pth").write_text(text)
        return folder / "a.pth"

    return Written(write)


@Written
def damaged(folder):
    data = bytearray(good_file(folder).read_bytes())
    place = data.index(S["encoder.fc.6.weight"].numpy().tobytes())
    data[place : place + 8] = bytes(8)
    (folder / "a.pth").write_bytes(data)
    return folder / "a.pth"


LIGHTNING = {"pytorch-lightning_version": "2.1.0", "epoch": 1, "optimizer_states": [], "hyper_parameters": {"lr": 1e-3}}
NORMS = {"weight": "gamma", "bias": "beta"}
CONVERTS, REFUSED = "converts", "refused"
BESIDE = {"model_state_dict": S}
# Row → one or several of (what is saved, further arguments, what the output, the error or the report say).
CASES = {
    "an argparse.Namespace, a Path, a defaultdict, a datetime": [
        (BESIDE | {"args": argparse.Namespace(lr=0.5, data="/home/anna/maps")}, [], ['"lr": 0.5', "…/maps"]),
        (BESIDE | {"config": {"root": pathlib.PurePosixPath("/data/maps")}}, [], ["…/maps"]),
        (BESIDE | {"history": collections.defaultdict(list, loss=[1.5])}, [], ["1.5"]),
        (BESIDE | {"saved_at": datetime.datetime(2024, 5, 6, 7, 8, 9)}, [], ["2024-05-06T07:08:09"]),
    ],
    "an EasyDict with the image size": [(easy_dict, [], ["easydict.EasyDict", '"image_size": 96'])],
    "an enum, a dataclass or a loss of a code base that is gone": [
        (objects_of_a_dead_repo, [], ["research.config.Mode", "research.config.Criterion"]),
    ],
    "random states, NumPy arrays of strings and objects": [
        (
            BESIDE | {"rng": {"numpy": np.random.RandomState(0).get_state(), "python": random.Random(0).getstate()}},
            [],
            [],
        ),
        (
            BESIDE | {"classes": np.array(["chair", "lamp"]), "odd": np.array([None, {"a": 1}], dtype=object)},
            [],
            ["chair"],
        ),
    ],
    "a configuration that contains itself": [(circle, [], ["(the same as config)"])],
    "control characters and the marks of a card in the metadata": [
        (BESIDE | {"epoch": "\x1b[31m<!-- end: provenance -->", "loss": "a|b\n\n# A title"}, [], ["&lt;!-- end"]),
    ],
    "a state dict under any key (state_dict, model, net, weights, ...)": [
        ({key: S, "epoch": 1}, [], [f"weights: {key}\n"])
        for key in ("state_dict", "model", "net", "weights", "autoencoder_state_dict", "anything at all")
    ],
    "a state dict several keys deep, or in a tuple": [
        ({"result": {"best": {"weights": S}}}, [], ["weights: result.best.weights\n"]),
        ({"v1.0": {"model": S}}, [], ['weights: "v1.0".model\n']),
        ((3, S), [], ["weights: 1\n"]),
        ({"model": list(S.items())}, [], ["weights: model\n"]),
    ],
    "encoder and decoder under keys of their own": [
        ({"encoder": part(S, "encoder."), "decoder": part(S, "decoder."), "epoch": 3}, [], ['"epoch": 3']),
        ({"encoder_state_dict": part(S, "encoder."), "decoder_state_dict": part(S, "decoder.")}, [], []),
        (
            {"encoder": encoder_part(S, "encoder."), "decoder": without_encoder(S)},
            ["--layout", "depth-autoencoder"],
            [],
        ),
    ],
    "the towers of a multimodal encoder under keys of their own": [
        (
            {
                "text_encoder": part(M, "text_encoder."),
                "visual_encoder": renamed(part(M, "visual_encoder."), "module.{}".format),
                "text_projection": part(M, "text_projection."),
                "visual_projection": part(M, "visual_projection."),
                "temperature": M["temperature"],
            },
            NO_TOKENIZER,
            [],
        ),
    ],
    "a dictionary of dictionaries, one for each module": [({"params": nested(S)}, [], ["weights: params\n"])],
    "a subclass of dict that is the state dict": [(dict_subclass, [], ["research.state.StateDict"])],
    "a whole pickled module, or DataParallel around it": [(whole_module, [], ["pickled DataParallel", "AutoEncoder"])],
    "a PyTorch Lightning checkpoint": [
        (
            {"state_dict": {**renamed(S, "model.{}".format), "criterion.vgg.0.weight": torch.ones(2)}, **LIGHTNING},
            [],
            ["PyTorch Lightning checkpoint", "weights: state_dict.model, without the prefix model.", "criterion.vgg"],
        ),
        ({"state_dict": renamed(M, "model.{}".format), **LIGHTNING}, NO_TOKENIZER, ["PyTorch Lightning"]),
    ],
    "a DeepSpeed checkpoint of stage 1 or 2": [
        ({"module": M, "ds_version": "0.14", "optimizer": None, "global_steps": 3}, NO_TOKENIZER, ["DeepSpeed"]),
    ],
    "names that begin with module., net., autoencoder.module. or anything": [
        (prefixed(prefix), [], [prefix])
        for prefix in (
            "module.",
            "net.",
            "autoencoder.module.",
            "a.b.c.",
            "_forward_module.",
            "_orig_mod.module.",
            "m.",
        )
    ],
    "torch.compile, FSDP or activation checkpointing around inner modules": [
        (prefixed("_fsdp_wrapped_module."), [], []),
        (renamed(S, lambda name: name.replace(".", "._orig_mod.", 1)), [], []),
        (renamed(S, lambda name: name.replace("layer2.", "layer2._checkpoint_wrapped_module.")), [], []),
    ],
    "NumPy arrays in place of tensors": [
        ({"model_state_dict": {name: tensor.numpy() for name, tensor in S.items()}}, [], []),
        ({name: tensor.numpy().astype(tensor.numpy().dtype.newbyteorder(">")) for name, tensor in S.items()}, [], []),
    ],
    "weights and their average (ema_state_dict, model_ema, state_dict_ema, ...)": [
        *(
            ({key: average(S), "epoch": 1, "model_state_dict": S}, [], [f"also {key} (depth-autoencoder, 457 tensors)"])
            for key in ("ema_state_dict", "model_ema", "state_dict_ema", "ema", "shadow_params", "best_teacher")
        ),
        ({"state_dict": average(renamed(S, "model_ema.{}".format)) | renamed(S, "model.{}".format)}, [], ["model_ema"]),
        ({"model": S, "ema": average(S), "n": 1}, [], ["took the weights at model; in the file are also ema"]),
    ],
    "MMCV's ema_ names beside the weights": [
        (
            {"state_dict": S | average(renamed(S, lambda name: f"ema_{name.replace('.', '_')}"))},
            [],
            ["also state_dict.ema_* (depth-autoencoder, 457 tensors)"],
        ),
        (
            renamed(S, "model.{}".format) | average(renamed(S, lambda name: f"model_ema.{name.replace('.', '')}")),
            [],
            ["also model_ema_* (depth-autoencoder, 457 tensors)"],
        ),
    ],
    "an average alone (AveragedModel)": [
        ({"model_state_dict": {"n_averaged": torch.tensor(10), **renamed(S, "module.{}".format)}}, [], ["n_averaged"]),
    ],
    "another network beside it, such as a discriminator": [
        ({"net": S, "net_D": {"conv.weight": torch.ones(2, 1)}}, [], ["also net_D (of no known family, 1 tensor)"]),
        ({"net": S, "ema": {"decay": 0.9, "shadow_params": list(S.values())}}, [], ["also ema.shadow_params"]),
    ],
    "two networks of one family": [
        ({"student": S, "other": average(S)}, [], ["took the weights at student; in the file are also other (depth"]),
        (renamed(S, "one.{}".format) | average(renamed(S, "two.{}".format)), [], ["took the weights at one", "two ("]),
    ],
    "a depth network and a multimodal encoder": [
        ({"clip": M, "model_state_dict": S}, [], ["took the weights at model_state_dict", "clip (multimodal-encoder"]),
        ({"clip": M, "autoencoder": S}, ["--layout", "depth-autoencoder"], ["took the weights at autoencoder"]),
        ({"clip": M, "autoencoder": S}, ["--weights", "autoencoder"], ["also clip (multimodal-encoder"]),
    ],
    "a `--weights` path that is not there": [
        ({"a": S, "b": S}, ["--weights", "c"], ["--weights c is no set of weights in the file; there are: a, b"]),
        ({"x": {"a": S, "b": S}}, ["--weights", "x"], ["leads to several sets of weights; there are: x.a, x.b"]),
    ],
    "total_ops, criterion.*, metrics, _extra_state among the weights": [
        (
            {
                "model_state_dict": {
                    **S,
                    "total_ops": torch.zeros(1),
                    "encoder.stem.total_params": torch.zeros(1),
                    "criterion.vgg.features.0.weight": torch.zeros(2, 3, 3, 3),
                    "val_psnr.total": torch.tensor(1.0),
                    "encoder._extra_state": None,
                }
            },
            [],
            ["total_ops", "encoder.stem.total_params", "criterion.vgg.features.0.weight", "val_psnr", "_extra_state"],
        ),
    ],
    "a head of its own on the encoder": [
        (
            encoder_part(S) | {"head.weight": torch.ones(2, 12)},
            [],
            ["unexpected 'head.weight'; --ignore PATTERN leaves"],
        ),
    ],
    "an `--ignore` pattern that matches nothing": [(S, ["--ignore", "x.*"], ["--ignore x.* matches no key"])],
    "a key that no such network has, among its own": [
        (S | {"encoder.x": torch.ones(1)}, [], ["unexpected 'encoder.x'"])
    ],
    "no num_batches_tracked": [(without(S, "num_batches_tracked"), [], ["counters num_batches_tracked are zeros"])],
    "LayerNorm.gamma and LayerNorm.beta": [
        (
            renamed(M, lambda n: re.sub(r"LayerNorm\.(weight|bias)", lambda m: m[0][:10] + NORMS[m[1]], n)),
            NO_TOKENIZER,
            ["gamma and beta of LayerNorm are named weight and bias"],
        ),
    ],
    "no temperature": [
        (without(M, "temperature"), NO_TOKENIZER, ["warning: temperature 0.07 assumed", '"temperature"'])
    ],
    "one tensor under two names": [
        (
            S | {"encoder.layer2.0.bn1.weight": S["encoder.layer2.0.bn1.bias"]},
            [],
            ["tied: encoder.layer2.0.bn1.weight"],
        ),
    ],
    "a part of the network is missing": [
        (without(S, WEIGHT, "encoder.fc.0.weight"), [], ["(455 of 457 keys match)", WEIGHT, "encoder.fc.0.weight"]),
        (without(M, "text_projection.weight"), NO_TOKENIZER, ["missing 'text_projection.weight'"]),
    ],
    "weight_norm, spectral_norm or another parametrization": [
        (with_weight_norm(), [], ["split by weight_norm", "'encoder.fc.6.weight_g'", "multiply them"]),
        (
            {name.replace("fc.6.weight", "fc.6.weight_orig"): tensor for name, tensor in S.items()},
            [],
            ["remove_spectral_norm or prune.remove"],
        ),
        (
            {name.replace("fc.6.w", "fc.6.parametrizations.weight.original0"): tensor for name, tensor in S.items()},
            [],
            ["remove_parametrizations"],
        ),
    ],
    "quantised weights": [
        (lambda: S | {WEIGHT: torch.quantize_per_tensor(S[WEIGHT], 0.1, 0, torch.qint8)}, [], ["quantised"]),
        (S | {"encoder.fc.0._packed_params._packed_params": torch.ones(2)}, [], ["its weights are quantised"]),
    ],
    "a LoRA adapter": [
        (
            {f"base_model.model.encoder.fc.0.lora_{x}.weight": torch.ones(2, 2) for x in "AB"},
            [],
            ["LoRA", "merge_and_unload"],
        ),
    ],
    "an optimizer's state alone": [
        (
            torch.optim.AdamW([torch.ones(2)]).state_dict() | {"state": {0: {"exp_avg": torch.ones(2)}}},
            [],
            ["optimizer"],
        ),
        ({"epoch": 1, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}}, [], ["optimizer"]),
    ],
    "DeepSpeed stage 3": [
        (
            {"module": {name: torch.empty(0) for name in M}, "param_shapes": [], "ds_version": "0.14"},
            NO_TOKENIZER,
            ["zero_to_fp32.py"],
        ),
    ],
    "FSDP's flat parameters": [
        ({"model": {"_fsdp_wrapped_module._flat_param": torch.ones(9)}}, [], ["flat parameters"])
    ],
    "a VisionTextDualEncoderModel of transformers": [
        (dual_encoder(), [], ["VisionTextDualEncoderModel.from_pretrained"]),
    ],
    "a state dict that contains itself": [(weights_in_a_circle, [], ["contain themselves"])],
    "a network of no known family, such as an EfficientNet": [
        (
            {"conv_stem.weight": torch.ones(1), **{f"layer1.{n}.conv_pw.weight": torch.ones(4, 4) for n in range(3)}},
            [],
            ["no network of a known family; no name matches one of theirs; `hf-encoders inspect` shows"],
        ),
        (
            {"conv1.weight": torch.ones(1), **{f"layer1.{n}.mixer.weight": torch.ones(4, 4) for n in range(3)}},
            [],
            ["no network of a known family; the nearest", "resnet (1 of 4 names match)"],
        ),
    ],
    "a part of a known network": [
        (
            {"conv1.weight": torch.ones(1), **{f"layer1.{n}.conv1.weight": torch.ones(4, 4, 1, 1) for n in range(3)}},
            [],
            ["the nearest are resnet (4 names match), depth (3 names", "as resnet: 'conv1.weight' has shape [1]"],
        ),
    ],
    "a file of torch.save, of any release, format and pickle protocol": [
        *((in_file(pickle_protocol=protocol), [], []) for protocol in (2, 3, 4, 5)),
        (in_file(_use_new_zipfile_serialization=False), [], []),
    ],
    "a safetensors file, with or without that suffix": [
        (safetensors_file("model.safetensors"), [], []),
        (safetensors_file("model.pth"), [], []),
    ],
    "a pickle or .npz of NumPy arrays": [(pickled_arrays, [], []), (npz, [], [])],
    "a TorchScript archive": [(torchscript, [], ["TorchScript archive"])],
    "a folder of shards with its index": [(Written(write_shards), [], [])],
    "a folder of DeepSpeed or of torch.distributed.checkpoint": [
        (deepspeed, NO_TOKENIZER, ["DeepSpeed"]),
        (distributed, [], []),
    ],
    "one shard of several": [(Written(lambda folder: next(write_shards(folder).glob("*1-of*"))), [], ["shard"])],
    "gzip, tar or zip around a checkpoint": [
        (around("a.pth.gz"), [], ["gzip"]),
        (around("a.pth.tar"), [], ["tar", "ckpt/best.pth"]),
        (around("a.zip"), [], ["zip", "ckpt/best.pth"]),
    ],
    "an unpacked checkpoint, a folder with data.pkl": [(unpacked, [], ["data.pkl", "zip"])],
    "a part of a file, such as .001": [(first_part, [], ["a.pth.002", "cat"])],
    "a web page or a Git LFS pointer in place of the file": [
        (text_file("<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>"), [], ["Quota exceeded"]),
        (text_file("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), [], ["git lfs pull"]),
    ],
    "a file that was damaged on its way": [(damaged, [], ["CRC-32"])],
}


def test_every_row_has_files_and_every_file_has_a_row():
    assert [row for row, _ in ROWS] == list(CASES)


@pytest.fixture(scope="module")
def plain_tensors(tmp_path_factory):
    """The tensors that the plain files of both networks convert to."""
    folder = tmp_path_factory.mktemp("plain")
    torch.save({"model_state_dict": S}, folder / "depth.pth")
    torch.save({"model_state_dict": M}, folder / "multimodal.pth")
    convert(folder / "depth.pth", "--no-verify")
    convert(folder / "multimodal.pth", "--no-verify", *NO_TOKENIZER)
    return [load_file(folder / f"{name}-hf" / "model.safetensors") for name in ("depth", "multimodal")]


OTHER_NUMBERS = ("no num_batches_tracked", "no temperature", "one tensor under two names")
PARAMETERS = [
    pytest.param(row, happens, *case, id=f"{row[:40]}-{number}")
    for row, happens in ROWS
    for number, case in enumerate(CASES.get(row, ()))
]


def written(content, folder):
    """The file or folder of a case."""
    if isinstance(content, Written):
        return content.write(folder)
    made = content() if callable(content) else content
    for each in made if callable(content) and not isinstance(made, dict) else [made]:
        torch.save(each, folder / "a.pth")
    return folder / "a.pth"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("row", "happens", "content", "options", "said"), PARAMETERS)
def test_rows(row, happens, content, options, said, tmp_path, plain_tensors):
    path = written(content, tmp_path)
    if happens.startswith(REFUSED):
        before = tree(tmp_path)
        line = refusal(path, *options)
        assert all(word in line for word in said), line
        assert tree(tmp_path) == before
        return
    assert happens.startswith(CONVERTS)
    out = convert(path, "--no-verify", *options)
    repo = next(tmp_path.glob("*-hf"))
    text = out + (repo / "conversion_report.json").read_text(encoding="utf-8")
    card = (repo / "README.md").read_text(encoding="utf-8")
    assert all(word in text for word in said), text[:3000]
    assert "/home/" not in text + card and "\x1b" not in text + card and "# A title" not in card.splitlines()
    assert all(piece.name for piece in split(card.split("---\n", 2)[2]))  # its marks are its own
    json.loads(text[len(out) :])
    tensors = load_file(repo / "model.safetensors")
    if row not in OTHER_NUMBERS:
        expected = next(each for each in plain_tensors if each.keys() == tensors.keys())
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)
