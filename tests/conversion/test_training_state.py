"""AdamW's state by the names of parameters: nothing lost, nothing misplaced, and the same updates afterwards."""

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_encoders.conversion.families.legacy.multimodal_layouts import (
    LayoutError,
    is_pooler,
    model_name,
    read_multimodal_checkpoint,
)
from hf_encoders.conversion.training_state import (
    TRAINING_JSON,
    TRAINING_TENSORS,
    legacy_training_state,
    read_training_state,
    write_training_state,
)
from tests.conftest import DATA
from tests.helpers.legacy_files import SAVINGS
from tests.helpers.multimodal_files import (
    NAMINGS,
    adamw_state,
    has_gradient,
    multimodal_state,
    with_new_names,
    without_poolers,
    write_multimodal,
)

RESUME = DATA / "multimodal_resume_checkpoint.pt"
QUERY = "visual_encoder.encoder.layer.0.attention.attention.query.weight"


@pytest.fixture(scope="module")
def source():
    """A real checkpoint after three steps."""
    return read_multimodal_checkpoint(RESUME)


@pytest.fixture(scope="module")
def resume():
    """What its file holds."""
    return torch.load(RESUME, weights_only=True)


def state_of(folder, content):
    torch.save(content, folder / "a.pt")
    return legacy_training_state(read_multimodal_checkpoint(folder / "a.pt"))


def changed(source, change):
    """The checkpoint with its optimizer's state changed; the tensors stay as they are."""
    state = {number: dict(entry) for number, entry in source.optimizer_state["state"].items()}
    optimizer = {"state": state, "param_groups": copy.deepcopy(source.optimizer_state["param_groups"])}
    change(optimizer)
    return replace(source, optimizer_state=optimizer)


def message(source):
    with pytest.raises(LayoutError) as caught:
        legacy_training_state(source)
    text = str(caught.value)
    assert text.startswith(f"{source.path}: ") and text.isprintable()
    return text.removeprefix(f"{source.path}: ")


def loaded(parameters, tensors, info):
    """An AdamW over named parameters in any order, its state put in by name."""
    optimizer = torch.optim.AdamW(parameters.values())
    keys = ("step", "exp_avg", "exp_avg_sq")
    state = {
        number: {key: tensors[f"{name}.{key}"] for key in keys}
        for number, name in enumerate(parameters)
        if f"{name}.step" in tensors
    }
    group = {key: value for key, value in info["optimizer"].items() if key != "name"}
    optimizer.load_state_dict({"state": state, "param_groups": [group | {"params": list(range(len(parameters)))}]})
    return optimizer


def test_every_moment_of_a_real_checkpoint_is_the_one_that_torch_gives_its_parameter(source, resume):
    tensors, info = legacy_training_state(source)
    parameters = {name: torch.nn.Parameter(tensor.clone()) for name, tensor in resume["model_state_dict"].items()}
    optimizer = torch.optim.AdamW(parameters.values())
    optimizer.load_state_dict(resume["optimizer_state_dict"])
    expected = {
        f"{model_name(name)}.{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }
    assert tensors.keys() == expected.keys() and len(tensors) == 3 * 47
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())
    assert info["parameters_without_state"] == ["temperature"] and info["dropped"] == []
    assert (info["epoch"], info["global_step"], info["format_version"]) == (0, 3, 1)
    assert info["best_loss"] == resume["best_loss"]
    group = resume["optimizer_state_dict"]["param_groups"][0]
    assert info["optimizer"].pop("name") == "AdamW"
    assert info["optimizer"] == {k: list(v) if k == "betas" else v for k, v in group.items() if k != "params"}


def test_updates_are_the_legacy_ones_in_any_order_of_parameters(source, resume):
    tensors, info = legacy_training_state(source)
    weights = {name: t for name, t in resume["model_state_dict"].items() if not is_pooler(name)}
    ours = {model_name(name): torch.nn.Parameter(weights[name].clone()) for name in sorted(weights, reverse=True)}
    legacy = {name: torch.nn.Parameter(tensor.clone()) for name, tensor in resume["model_state_dict"].items()}
    optimizers = [loaded(ours, tensors, info), torch.optim.AdamW(legacy.values())]
    optimizers[1].load_state_dict(resume["optimizer_state_dict"])
    for _ in range(2):
        for name in filter(has_gradient, weights):
            gradient = torch.randn(weights[name].shape)
            legacy[name].grad, ours[model_name(name)].grad = gradient, gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert not torch.equal(legacy[QUERY], weights[QUERY])
    assert all(torch.equal(ours[model_name(name)], legacy[name]) for name in weights)


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_gives_the_same_state(naming, tmp_path):
    """The numbers of parameters are those of each file's own order."""
    state = NAMINGS[naming](multimodal_state())
    content = {"model_state_dict": state, "optimizer_state_dict": adamw_state(state, steps=1)}
    parameters = [tensor for tensor in state.values() if tensor.is_floating_point()]
    for number, entry in content["optimizer_state_dict"]["state"].items():
        entry["exp_avg"] = parameters[number].clone()  # tells whose moment it is
    tensors, info = state_of(tmp_path, content)
    expected = {model_name(name): t for name, t in multimodal_state().items() if has_gradient(name)}
    assert {name.removesuffix(".exp_avg") for name in tensors if name.endswith(".exp_avg")} == expected.keys()
    assert all(torch.equal(tensors[f"{name}.exp_avg"], tensor) for name, tensor in expected.items())
    assert info["best_loss"] is info["epoch"] is info["global_step"] is None


@pytest.mark.parametrize("saving", SAVINGS)
def test_every_way_of_saving_gives_the_same_state(saving, tmp_path):
    found = read_multimodal_checkpoint(write_multimodal(tmp_path / "a.pt", **SAVINGS[saving]))
    tensors, info = legacy_training_state(found)
    plain, _ = legacy_training_state(read_multimodal_checkpoint(write_multimodal(tmp_path / "b.pt")))
    assert tensors.keys() == plain.keys()
    if "dtype" not in SAVINGS[saving]:  # AdamW adds up the same numbers
        assert all(torch.equal(tensors[name], tensor) for name, tensor in plain.items())
    assert (info["epoch"], info["global_step"], info["best_loss"]) == (2, 30, 0.125)


def test_states_of_poolers_are_dropped_and_those_of_the_temperature_kept(tmp_path):
    state = multimodal_state() | {"temperature": torch.tensor([0.07])}
    content = {"model_state_dict": state, "optimizer_state_dict": adamw_state(state, trained=lambda name: True)}
    tensors, info = state_of(tmp_path, content)
    assert info["parameters_without_state"] == [] and not any(".pooler." in name for name in tensors)
    assert info["dropped"] == [name for name in state if ".pooler." in name]
    assert tensors["temperature.exp_avg"].shape == () and tensors["temperature.step"] == 3


def test_amsgrad_and_the_rest_of_the_group_are_kept(tmp_path):
    state = multimodal_state()
    tensors, info = state_of(
        tmp_path, {"model_state_dict": state, "optimizer_state_dict": adamw_state(state, amsgrad=True)}
    )
    assert info["optimizer"]["amsgrad"] is True and info["optimizer"]["foreach"] is None
    assert sum(name.endswith(".max_exp_avg_sq") for name in tensors) * 4 == len(tensors)


def test_several_groups_keep_their_own_hyper_parameters(source, resume):
    def split(optimizer):
        [group] = optimizer["param_groups"]
        optimizer["param_groups"] = [
            group | {"params": group["params"][:24], "lr": torch.tensor(0.5), "name": "text"},
            group | {"params": group["params"][24:], "weight_decay": 0},
        ]

    tensors, info = legacy_training_state(changed(source, split))
    names = [name for name in resume["model_state_dict"] if not is_pooler(name)]
    first, second = info["optimizer"]["groups"]
    assert first["parameters"] == [model_name(name) for name in names if name.startswith(("temp", "text_encoder."))]
    assert first["parameters"] + second["parameters"] == [model_name(name) for name in names]
    assert (first["lr"], first["weight_decay"], first["name"]) == (0.5, 0.01, "text")
    assert (second["lr"], second["weight_decay"]) == (1e-4, 0)
    assert torch.equal(tensors[f"{model_name(QUERY)}.exp_avg"], resume["optimizer_state_dict"]["state"][28]["exp_avg"])


def test_a_state_is_written_and_read_again(source, tmp_path):
    tensors, info = legacy_training_state(source)
    write_training_state(tmp_path, tensors, info)
    read_tensors, read_info = read_training_state(tmp_path)
    assert read_info == info and read_tensors.keys() == tensors.keys()
    assert all(torch.equal(read_tensors[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        (TRAINING_JSON, None, "has no training_state.json; convert a training checkpoint"),
        (TRAINING_TENSORS, None, "has no training_state.safetensors; convert a training checkpoint"),
        (TRAINING_JSON, b"{", "not valid JSON"),
        (TRAINING_JSON, b"\xff", "not valid JSON"),
        (TRAINING_JSON, b"[]", "of format version None, expected 1"),
        (TRAINING_JSON, b'{"format_version": 2}', "of format version 2, expected 1"),
        (TRAINING_TENSORS, b"\1\0\0\0\0\0\0\0{", "damaged"),
        (TRAINING_TENSORS, b"", "damaged"),
    ],
)
def test_damaged_states_are_refused(name, data, said, tmp_path):
    write_training_state(tmp_path, {"temperature.step": torch.tensor(1.0)}, {"format_version": 1})
    (tmp_path / name).unlink()
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        read_training_state(tmp_path)
    assert str(caught.value).startswith(str(tmp_path)) and str(caught.value).isprintable()


def test_a_file_without_an_optimizer_s_state_is_refused(resume, tmp_path):
    others = [{"optimizer_state_dict": None}, {"optimizer_state_dict": [1]}, {}]
    contents = [resume["model_state_dict"], *({"model_state_dict": resume["model_state_dict"]} | o for o in others)]
    for content in contents:
        with pytest.raises(
            LayoutError, match=r"a\.pt: holds no optimizer_state_dict, so training cannot go on from it"
        ):
            state_of(tmp_path, content)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {name: state[name] for name in sorted(state)}, "parameters are not in the network's order"),
        (without_poolers, "the optimizer numbers 52 parameters, the state dict holds 48"),
        # The numbers are still those of transformers 4's order.
        (
            with_new_names,
            "the optimizer's exp_avg of 'visual_encoder.encoder.layer.0.layernorm_before.weight' has shape",
        ),
    ],
)
def test_numbers_without_names_are_refused(change, said, resume, tmp_path):
    with pytest.raises(LayoutError, match=re.escape(said)):
        state_of(tmp_path, resume | {"model_state_dict": change(resume["model_state_dict"])})


def entry(number, **values):
    return lambda optimizer: optimizer["state"][number].update(values)


def group(**values):
    return lambda optimizer: optimizer["param_groups"][0].update(values)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda o: o["state"].pop(28), f"has no state for '{QUERY}' (1 such"),
        (lambda o: o["state"].clear(), "has no state for 'text_encoder.embeddings.word_embeddings.weight' (47 such"),
        (lambda o: o["state"].update({52: o["state"][1]}), "a state for parameter 52 of 52"),
        (lambda o: o["state"].update({-1: o["state"][1]}), "a state for parameter -1 of 52"),
        (lambda o: o["state"].update({"1": o["state"][1]}), "a state for parameter '1' of 52"),
        (lambda o: o["state"].update({28: [1]}), f"state of '{QUERY}' is a list"),
        (lambda o: o.update(state=[]), "holds no dictionary of states"),
        (lambda o: o.update(param_groups={}), "param_groups are not a list of groups"),
        (lambda o: o.update(param_groups=[3]), "param_groups are not a list of groups"),
        (lambda o: o.update(param_groups=[]), "numbers 0 parameters, the state dict holds 52"),
        (lambda o: o["param_groups"][0]["params"].pop(), "numbers 51 parameters, the state dict holds 52"),
        (lambda o: o["param_groups"][0]["params"].__setitem__(3, 4), "hold a parameter 4, expected each of 0 to 51"),
        (lambda o: o["param_groups"][0]["params"].__setitem__(3, 52), "hold a parameter 52, expected each"),
        (lambda o: o["param_groups"][0]["params"].__setitem__(3, "x"), "hold a parameter 'x', expected each"),
        (lambda o: o["param_groups"][0]["params"].__setitem__(3, [0]), "hold a parameter a list, expected each"),
        (entry(28, exp_avg=torch.zeros(64)), f"exp_avg of '{QUERY}' has shape [64], the parameter [64, 64]"),
        (entry(28, exp_avg_sq=torch.zeros(64, 1)), f"exp_avg_sq of '{QUERY}' has shape [64, 1]"),
        (entry(28, exp_avg=torch.full((64, 64), torch.nan)), f"exp_avg of '{QUERY}' holds NaN or infinity"),
        (entry(28, exp_avg_sq=torch.full((64, 64), -1.0)), f"exp_avg_sq of '{QUERY}' holds negative numbers"),
        (entry(28, exp_avg=torch.zeros(64, 64, dtype=torch.int64)), f"exp_avg of '{QUERY}' holds int64, expected"),
        (entry(28, exp_avg=torch.zeros(64, 64).to_sparse()), f"exp_avg of '{QUERY}' is a sparse"),
        (entry(28, exp_avg=None), f"exp_avg of '{QUERY}' is a NoneType, expected a tensor"),
        (entry(28, momentum_buffer=torch.zeros(64, 64)), f"state of '{QUERY}' is not AdamW's: it holds 'step', "),
        (lambda o: o["state"][28].pop("step"), f"state of '{QUERY}' is not AdamW's: it holds 'exp_avg', 'exp_avg_sq'"),
        (group(amsgrad=True), "is not AdamW's: it holds 'step', 'exp_avg', 'exp_avg_sq'"),
        *((entry(28, step=step), f"step of '{QUERY}' is {shown}") for step, shown in [
            ("3", "'3', expected a whole number"), (None, "None"), (True, "True"), (-1, "-1"), (2.5, "2.5"),
            (10**5000, "a int"), (torch.tensor(torch.nan), "a Tensor"), (torch.ones(2), "a Tensor"),
            (torch.tensor(1j), "a Tensor"), (torch.ones(1).to_sparse(), "a Tensor"),
        ]),
        (group(lr=-1.0), "the optimizer's 'lr' is -1.0, expected a number of 0 or more"),
        (group(lr="fast"), "the optimizer's 'lr' is 'fast', expected a number of 0 or more"),
        (group(eps=torch.nan), "the optimizer's 'eps' is nan, expected a finite number"),
        (group(weight_decay=None), "the optimizer's 'weight_decay' is None, expected a number"),
        (group(betas=(0.9, 1.0)), "the optimizer's betas are [0.9, 1.0], expected two numbers"),
        (group(betas=0.9), "the optimizer's betas are 0.9, expected two numbers"),
        (group(other={}), "the optimizer's 'other' is a dict, expected a finite number"),
        (group(decoupled_weight_decay=False), "is not AdamW (weight decay is not decoupled)"),
        (lambda o: o["param_groups"][0].pop("betas"), "is not AdamW (no betas)"),
    ],
)  # fmt: skip
def test_whatever_would_lose_or_misplace_a_moment_is_refused(change, said, source):
    assert said in message(changed(source, change))


@pytest.mark.parametrize("step", [3, 3.0, np.float64(3), torch.tensor(3), torch.tensor([3.0]), torch.tensor(3.0)])
def test_steps_of_older_releases_become_scalars(step, source):
    tensors, _ = legacy_training_state(changed(source, entry(28, step=step)))
    found = tensors[f"{model_name(QUERY)}.step"]
    assert torch.equal(found, torch.tensor(3.0)) and found.dtype == torch.float32


@pytest.mark.parametrize("best", [float("inf"), torch.tensor(float("inf")), np.float64("inf")])
def test_a_best_loss_of_infinity_is_none_yet(best, source):
    _, info = legacy_training_state(replace(source, metadata={"best_loss": best, "epoch": torch.tensor(4)}))
    assert info["best_loss"] is None and info["epoch"] == 4
    assert json.loads(json.dumps(info, allow_nan=False)) == info


@pytest.mark.parametrize("key", ["epoch", "global_step"])
@pytest.mark.parametrize(
    ("value", "shown"), [("3", "'3'"), (-1, "-1"), (2.5, "2.5"), (torch.nan, "nan"), ([1], "a list")]
)
def test_impossible_counts_are_refused(key, value, shown, source):
    assert f"its {key} is {shown}, expected a whole number" in message(replace(source, metadata={key: value}))


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just(torch.ones(2)),
    st.lists(st.integers(-1, 60), max_size=3), st.dictionaries(st.integers(0, 60), st.integers(), max_size=2),
)  # fmt: skip


@given(st.sampled_from([0, 1, 28, "state", "param_groups", "params", "exp_avg", "step", "betas"]), JUNK)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_any_junk_is_refused_in_one_line_or_plain_data(source, place, junk):
    def change(optimizer):
        if place in ("state", "param_groups"):
            optimizer[place] = junk
        elif place in ("params", "betas"):
            optimizer["param_groups"][0][place] = junk
        elif place in ("exp_avg", "step"):
            optimizer["state"][28][place] = junk
        else:
            optimizer["state"][place] = junk

    try:
        _, info = legacy_training_state(changed(source, change))
        json.dumps(info, allow_nan=False)
    except LayoutError as error:
        assert str(error).isprintable()
