"""Finding weights in what a file holds: places, paths, prefixes, averages, choices, states of the training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_encoders.checkpoints.checkpoint import Checkpoint, Stub
from hf_encoders.checkpoints.errors import CheckpointError, LayoutError
from hf_encoders.checkpoints.finding.averages import is_average
from hf_encoders.checkpoints.finding.choice import WeightsWanted, choose
from hf_encoders.checkpoints.finding.left_overs import explain_parts, is_left_over
from hf_encoders.checkpoints.finding.metadata import metadata_without
from hf_encoders.checkpoints.finding.modules import as_mapping, children
from hf_encoders.checkpoints.finding.networks import FamilyNames, find_networks
from hf_encoders.checkpoints.finding.survey import survey
from hf_encoders.checkpoints.finding.weights import LazyTensors, TensorWeight, as_weight
from hf_encoders.conversion.families.names import FAMILIES, layout_of
from tests.conftest import DATA
from tests.helpers.legacy_files import encoder_part, tiny_state
from tests.helpers.multimodal_files import multimodal_state

S, M = tiny_state(), multimodal_state()


def checkpoint(content):
    return Checkpoint(Path("a.pth"), "pickle", content)


def chosen(content, path=None, *ignore):
    return choose(checkpoint(content), FAMILIES, WeightsWanted(path, ignore))


def message(content, path=None):
    with pytest.raises(LayoutError) as caught:
        chosen(content, path)
    return str(caught.value)


def module(parameters=None, buffers=None, modules=None, **more):
    state = {"_parameters": parameters or {}, "_buffers": buffers or {}, "_modules": modules or {}, "training": True}
    return Stub("research.Module", state=state | more)


@pytest.mark.parametrize(
    ("names", "family"),
    [("depth_autoencoder_keys", "depth-autoencoder"), ("multimodal_base_keys", "multimodal-encoder")],
)
def test_the_names_of_the_full_size_networks_are_known(names, family):
    keys = [line.split("\t")[0] for line in (DATA / f"{names}.tsv").read_text().splitlines()[1:]]
    (network,) = find_networks(survey("a", {key: torch.ones(1) for key in keys}).tensors, FAMILIES)
    assert layout_of(network) == family and all(member.matches for member in network.members)
    assert len(network.members) == len(keys)


# Path that is printed → the content that holds the tiny autoencoder there.
PLACES = {
    ".": S,
    "a": {"a": S},
    "a.b.c": {"a": {"b": {"c": S}}},
    "a.0.b": {"a": [{"b": S}, "x"]},
    "0": (S, 1),
    "7": {7: S},
    '"v1.0"': {"v1.0": S},
    '"v1.0".a b.""': {"v1.0": {"a b": {"": S}}},
    '"say \\"hi\\""': {'say "hi"': S},
    "a.model": {"a": {f"model.{name}": tensor for name, tensor in S.items()}},
    "model.net": {f"model.net.{name}": tensor for name, tensor in S.items()},
    "a.module": {"a": {f"module.{name}": tensor for name, tensor in S.items()}},
    "trainer.model": {"trainer": Stub("research.Trainer", state={"model": S, "epoch": 3})},
    "state": {"state": Stub("research.State", entries=dict(S))},
}


@pytest.mark.parametrize("path", PLACES)
def test_weights_are_found_at_any_place_and_taken_by_their_path(path):
    for content in (PLACES[path], {"first": PLACES[path], "second": {"x": M}}):
        expected = path if content is PLACES[path] else f"first.{path}" if path != "." else "first"
        found = chosen(content, expected)
        assert found.network.path == expected and layout_of(found.network) == "depth-autoencoder"
        assert {member.name: member.weight.read() for member in found.network.members}.keys() == S.keys()
    assert chosen(PLACES[path]).network.path == path


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_every_path_that_is_printed_is_taken(keys):
    content = {"other": {"x": M}}
    node = content.setdefault("top", {})
    for key in keys:
        node[key] = {}
        node = node[key]
    node |= encoder_part(S)
    path = chosen(content, None).network.path if len(keys) > 99 else None
    paths = [network.path for network in find_networks(survey("a", content).tensors, FAMILIES)]
    assert len(paths) == 2
    for path in paths:
        assert chosen(content, path).network.path == path


def test_a_path_above_the_only_weights_is_good_and_one_above_several_is_not():
    content = {"runs": {"best": {"model": S}}, "old": {"a": S, "b": S}}
    assert chosen(content, "runs").network.path == "runs.best.model"
    assert "--weights old leads to several sets of weights; there are: old.a, old.b" in message(content, "old")
    assert "--weights x is no set of weights in the file; there are: runs.best.model, old.a, old.b" in message(
        content, "x"
    )
    assert "there are: none" in message({"a": 1}, "x")


def test_a_path_leads_to_the_network_rather_than_to_what_is_left_over_beside_it():
    state = {f"model.{name}": tensor for name, tensor in S.items()} | {"criterion.w": torch.ones(2)}
    found = chosen({"state_dict": state, "other": {"w.weight": torch.ones(2)}}, "state_dict")
    assert found.network.path == "state_dict.model" and found.dropped == ["criterion.w"]
    assert chosen({"net": S, "other": {"w.weight": torch.ones(2)}}, "other").network.family == ""


def test_the_keys_of_a_network_are_those_of_its_container():
    apart = {"encoder_state_dict": encoder_part(S), "epoch": 1}
    found = chosen(apart)
    assert found.network.container == ("encoder_state_dict",) and found.network.members[0].key == "stem.0.weight"
    assert found.wrapping == "extracted encoder" and found.metadata == {"epoch": 1}
    found = chosen({"m": {f"module.{name}": tensor for name, tensor in S.items()}})
    assert found.network.members[0].key == "module.encoder.stem.0.weight" and found.network.prefix == "module."
    assert found.network.members[0].name == "encoder.stem.0.weight"


def test_a_network_takes_everything_below_its_prefix_but_other_networks():
    content = {"x": {**S, "y.z": torch.ones(1), **{f"ema.{name}": tensor for name, tensor in S.items()}}}
    first, second = find_networks(survey("a", content).tensors, FAMILIES)
    assert [member.key for member in first.members if not member.matches] == ["y.z"]
    assert (first.path, second.path) == ("x", "x.ema") and len(second.members) == len(S)


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ({"model_ema": S, "model": S}, "model"),
        ({"ema": S, "anything": S}, "anything"),
        ({"teacher": S, "student": S}, "student"),
        ({"callbacks": {"EMA": {"state_dict": S}}, "weights": S}, "weights"),
        ({"last": S, "best": S}, "last"),
        ({"a": S, "state_dict": S, "b": S}, "state_dict"),
        ({"model_state_dict": {k: S[k] for k in list(S)[:200]}, "whole": S}, "whole"),
        ({"target": S}, "target"),
    ],
)
def test_which_of_several(content, path):
    found = chosen(content)
    assert found.network.path == path
    assert len(found.others) == len(content) - 1


@pytest.mark.parametrize(
    "path",
    [
        *("ema", "ema_state_dict", "model_ema", "state_dict_ema", "x.ema_*", "swa_model", "averaged_model", "teacher"),
        *("callbacks.EMACallback.weights", "encoder_k", "momentum_encoder", "shadow_params", "avg"),
    ],
)
def test_averages_are_known_by_their_path(path):
    assert is_average(path)


@pytest.mark.parametrize(
    "path", ["model", "schema", "cinema.model", "swan", "dataset", "averse", "state_dict", "kmeans"]
)
def test_other_words_are_no_averages(path):
    assert not is_average(path)


def test_states_of_the_training_are_no_weights():
    adam = {"state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(1)}}, "param_groups": [{"lr": 1}]}
    content = {
        "model": S, "optimizer": adam, "opt_D": adam, "optimizers": [adam, adam], "scaler": {"scale": torch.ones(1)},
        "optim": Stub("torch.optim.adam.Adam", state=adam), "rng_state": [torch.ones(5)], "lr_schedulers": [{"a": 1}],
        "random_states": {"numpy": ("MT19937", np.arange(5))}, "optimal": {"w": torch.ones(2)},
    }  # fmt: skip
    found = survey("a", content)
    assert {".".join(state.keys): (state.is_optimizer, state.tensors) for state in found.states} == {
        "optimizer": (True, 2), "opt_D": (True, 2), "optimizers.0": (True, 2), "optimizers.1": (True, 2),
        "scaler": (False, 1), "optim": (True, 2), "rng_state": (False, 1), "lr_schedulers": (False, 0),
        "random_states": (False, 1),
    }  # fmt: skip
    assert {tensor.keys[0] for tensor in found.tensors} == {"model", "optimal"}


def test_a_pickled_module_holds_what_its_state_dict_holds():
    inner = module({"weight": torch.ones(2), "bias": None}, {"mean": torch.ones(1), "cache": torch.ones(1)})
    inner.state["_non_persistent_buffers_set"] = {"cache"}
    net = module({"scale": torch.ones(1)}, {}, {"a": inner, "b": inner, "none": None}, secret=torch.ones(9))
    found = survey("a", {"net": net})
    names = [".".join(tensor.keys) for tensor in found.tensors]
    assert names == ["net.scale", "net.a.weight", "net.a.mean", "net.b.weight", "net.b.mean"]
    assert {tensor.root for tensor in found.tensors} == {("net",)} and found.circles == []


def test_a_module_that_contains_itself_is_refused_and_one_in_metadata_is_not():
    net = module(modules={"encoder": module(encoder_part(S))})
    net.state["_modules"]["encoder"].state["_modules"]["parent"] = net
    assert "a.pth: the weights at net" in message({"net": net}) and "contain themselves" in message({"net": net})
    assert chosen({"net": net, "good": S}, "good").network.path == "good"
    top = {"model": S}
    top["self"] = top
    assert chosen(top).network.path == "model"


def test_a_bomb_of_shared_containers_ends():
    bomb = {"w": torch.ones(1)}
    for _ in range(40):
        bomb = {"a": bomb, "b": bomb}
    with pytest.raises(CheckpointError, match=r"a\.pth: refers to its own parts millions of times"):
        survey("a.pth", bomb)
    empty = [1]
    for _ in range(100):
        empty = [empty, empty]
    assert survey("a.pth", empty).tensors == []


def test_the_deepest_file_that_is_read_is_searched():
    deep = {"model": S}
    for _ in range(290):
        deep = {"x": deep}
    assert len(survey("a", deep).tensors) == len(S)


def test_dropped_keys_are_named_and_patterns_drop_more():
    state = {**S, "total_ops": torch.ones(1), "head.weight": torch.ones(2), "note": "x", "encoder._extra_state": None}
    found = chosen({"model": state}, None, "head.*")
    assert found.dropped == ["total_ops", "head.weight", "note", "encoder._extra_state"]
    assert found.ignored == ("head.*",) and len(found.network.members) == len(S)
    assert chosen({"model": S}, None, "decoder.*").network.members[-1].name.startswith("encoder.")
    assert len(chosen({"model": S}, None, "model.encoder.*").network.members) < len(S)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in ("total_ops", "encoder.total_params", "n_averaged", "criterion.w", "loss_fn.a.b")),
        *((name, True) for name in ("train_metrics.acc.total", "val_psnr.sum", "vgg_loss.x", "lpips.net.x", "epoch")),
        *(
            (name, False)
            for name in ("head.weight", "encoder.loss.weight", "attention1.gamma", "lossless", "logit_scale")
        ),
        *((name, False) for name in ("encoder.x", "projector.0.weight", "queue", "epoch.weight")),
    ],
)
def test_left_overs_are_what_no_network_needs(name, expected):
    assert is_left_over(name) is expected


@pytest.mark.parametrize("name", ["encoder.fc.0.weight", "encoder.attention1.gamma", "a.lora", "scale", "weight_go"])
def test_plain_names_say_nothing_of_a_form(name):
    assert explain_parts([name]) == ""


def test_tied_tensors_are_said_and_read_apart():
    weight = as_weight(torch.ones(3))
    tensors = LazyTensors("a", {"x": weight, "y": weight})
    assert torch.equal(tensors["x"], tensors["y"]) and tensors["x"].data_ptr() != tensors["y"].data_ptr()
    found = chosen(
        S | {"encoder.fc.6.bias": S["encoder.fc.6.bias"], "decoder.final_conv.9.bias": S["encoder.fc.6.bias"]}
    )
    assert found.notes == [
        "tied: encoder.fc.6.bias = decoder.final_conv.9.bias (one tensor in the file, written under each name)"
    ]


def test_tensors_are_read_once_and_only_when_asked_for():
    class Counting(TensorWeight):
        reads = 0

        def read(self):
            self.reads += 1
            return super().read()

    a, b = Counting(torch.ones(1)), Counting(torch.ones(1))
    tensors = LazyTensors("f.pth", {"a.x": a, "b.x": b})
    part = tensors.only(("a.",)).plus({"c": torch.zeros(1)})
    assert list(part) == ["a.x", "c"] and list(tensors) == ["a.x", "b.x"] and "b.x" not in part and len(part) == 2
    assert torch.equal(part["a.x"], tensors["a.x"]) and part["c"] == 0
    assert (a.reads, b.reads) == (1, 0)


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", ">f8", "i8", ">i2", "u1", "u2", "?", "c8"])
def test_arrays_are_weights_in_any_byte_order(dtype):
    array = np.array([[1, 0, 3]]).astype(dtype)[:, ::-1]
    weight = as_weight(array)
    assert weight.shape == (1, 3) and weight.read().dtype == weight.dtype
    assert weight.read().tolist() == array.tolist()


@pytest.mark.parametrize("value", [np.array(["a"]), np.array([b"a"]), np.float32(1), [1.0], None, "x", Stub("a.B")])
def test_other_values_are_no_weights(value):
    assert as_weight(value) is None


def test_configurations_of_any_class_are_mappings():
    assert as_mapping({"a": 1}) == {"a": 1}
    assert as_mapping(Stub("argparse.Namespace", state={"a": 1})) == {"a": 1}
    assert as_mapping(Stub("easydict.EasyDict", entries={"a": 1})) == {"a": 1}
    assert as_mapping("x") == {} and as_mapping(None) == {}
    assert dict(children(Stub("a.B", arguments=(1,), items=[2], keywords={"c": 3}))) == {0: 1, 1: 2, "c": 3}


def test_metadata_is_what_is_left():
    content = {"a": {"w": 1, "b": {"x": 1, "y": 2}}, "c": [1, {"d": 2, "e": 3}], "f": {"only": 1}}
    assert metadata_without(content, {("a", "b", "x"), ("c", "1", "d"), ("f", "only"), ("none",)}) == {
        "a": {"w": 1, "b": {"y": 2}}, "c": {"0": 1, "1": {"e": 3}},
    }  # fmt: skip


def test_families_need_their_marks():
    resnet = {"conv1.weight": torch.ones(1), "layer1.0.conv1.weight": torch.ones(1)}
    assert find_networks(survey("a", {"x": resnet}).tensors, FAMILIES) == []
    with pytest.raises(AttributeError):
        FAMILIES[0].name = "x"
    assert isinstance(FAMILIES[0], FamilyNames)
