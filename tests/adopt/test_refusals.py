"""What cannot be adopted ends in one line and leaves nothing."""

from pathlib import Path

import pytest
import torch
from torch import nn

from hf_encoders.adopt.adopt import AdoptOptions, adopt
from hf_encoders.adopt.arguments import arguments_in, given_arguments
from hf_encoders.adopt.code.target import parse_target
from hf_encoders.adopt.errors import AdoptError
from hf_encoders.adopt.inputs import name_inputs, parse_input
from hf_encoders.adopt.processors import ProcessorOptions, reader_of
from hf_encoders.adopt.weights import NetworkNames, find_weights
from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.checkpoints.files import open_checkpoint
from hf_encoders.checkpoints.finding.choice import WeightsWanted

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, dim=4{more}):
        super().__init__()
        {first}
        self.lin = nn.Linear(4, dim)

    def forward(self, x):
        return {gives}
"""


def refused(folder: Path, *, first="pass", gives="self.lin(x)", more="", arguments=None, embedding=None) -> str:
    """What is said of a network; nothing is left."""
    (folder / "net.py").write_text(NET.format(first=first, gives=gives, more=more))
    torch.save(nn.Linear(4, 4).state_dict(), folder / "plain.pt")
    torch.save({f"lin.{name}": tensor for name, tensor in nn.Linear(4, 4).state_dict().items()}, folder / "net.pt")
    options = AdoptOptions([parse_input("1x4")], arguments or {}, embedding=embedding)
    with pytest.raises((AdoptError, LayoutError)) as error:
        adopt(parse_target(f"{folder}/net.py:Net"), folder / "net.pt", folder / "repo", options)
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("__")) == [
        "net.pt", "net.py", "plain.pt",
    ]  # fmt: skip
    return str(error.value)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"arguments": {"width": 3}}, "Net has no argument 'width'; it takes dim"),
        ({"more": ", *, heads"}, "Net needs the argument 'heads'; give it in --kwargs"),
        ({"first": "open(__file__.replace('.py', '.pt'), 'rb')"}, "net.py:9: the constructor reads the file"),
        ({"first": "import socket; socket.getaddrinfo('x', 1)"}, "net.py:9: the constructor asks the network for"),
        ({"first": "torch.zeros(1).cuda()"}, "it needs a GPU"),
        ({"gives": "(self.lin(x), x[:, None])"}, "with --embedding: it returns a tuple of [1, 4], [1, 1, 4]"),
        ({"embedding": "output[:, 0]"}, "--embedding output[:, 0] is [1], expected [1, D]"),
        ({"gives": "nn.functional.dropout(self.lin(x))"}, "Net is not deterministic: two runs of one input differ by"),
        ({"gives": "self.missing(x)"}, "net.py:13: AttributeError"),
    ],
)
def test_a_network_that_cannot_be_adopted_is_said_and_leaves_nothing(tmp_path, network, message):
    assert message in refused(tmp_path, **network)


def weights(folder: Path, tensors: dict[str, torch.Tensor], shapes: dict, tied=(), **wanted):
    torch.save(tensors, folder / "w.pt")
    network = NetworkNames(shapes, dict(tied))
    return find_weights(open_checkpoint(folder / "w.pt"), "Net", network, WeightsWanted(**wanted))


def test_weights_are_found_below_a_prefix_and_beside_others(tmp_path):
    tensors = {
        "model.encoder.a.weight": torch.ones(2),
        "model.encoder.module.b": torch.ones(3),
        "head.w": torch.ones(1),
    }
    found = weights(tmp_path, tensors, {"a.weight": (2,), "module.b": (3,)})
    assert sorted(found.tensors) == ["a.weight", "module.b"]


@pytest.mark.parametrize("part", ["encoder_q", "encoder_k"])
def test_of_two_networks_that_of_the_named_attribute_is_taken(tmp_path, part):
    values = {"encoder_q": torch.ones(2), "encoder_k": torch.zeros(2)}
    tensors = {f"module.{name}.{own}.weight": value for name, value in values.items() for own in ("a", "b")}
    torch.save(tensors, tmp_path / "w.pt")
    network = NetworkNames({"a.weight": (2,), "b.weight": (2,)}, {})
    found = find_weights(open_checkpoint(tmp_path / "w.pt"), "Net", network, WeightsWanted(), (part,))
    assert found.keys["a.weight"] == f"module.{part}.a.weight"
    assert torch.equal(found.tensors["a.weight"], tensors[f"module.{part}.a.weight"])


def test_a_tied_weight_is_taken_under_any_of_its_names(tmp_path):
    found = weights(
        tmp_path, {"b": torch.ones(2), "c": torch.ones(1)}, {"a": (2,), "b": (2,), "c": (1,)}, {"b": "a"}.items()
    )
    assert sorted(found.tensors) == ["a", "c"]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a.weight": torch.ones(2)}, "not the weights of Net (1 of 2 keys match): missing 'b.weight'"),
        (
            {"a.weight": torch.ones(2), "b.weight": torch.ones(3), "c.weight": torch.ones(1)},
            "unexpected 'c.weight'; --ignore PATTERN leaves out",
        ),
        ({"a.weight": torch.ones(2), "b.weight": torch.ones(4)}, "'b.weight' has shape [4], expected [3]"),
        ({"a.weight": torch.ones(2), "b.weight": torch.full((3,), torch.nan)}, "b.weight holds NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, tensors, message):
    with pytest.raises(LayoutError) as error:
        weights(tmp_path, tensors, {"a.weight": (2,), "b.weight": (3,)})
    assert message in str(error.value)


def test_weights_that_are_ignored_are_left_out(tmp_path):
    tensors = {"a.weight": torch.ones(2), "c.weight": torch.ones(1)}
    assert sorted(weights(tmp_path, tensors, {"a.weight": (2,)}, ignore=("c.*",)).tensors) == ["a.weight"]


def test_tied_weights_that_differ_are_refused(tmp_path):
    with pytest.raises(LayoutError, match="'b' and 'a' differ, and are one in Net"):
        weights(tmp_path, {"a": torch.ones(2), "b": torch.zeros(2)}, {"a": (2,), "b": (2,)}, {"b": "a"}.items())


@pytest.mark.parametrize("text", ["[1]", "{1: 2}", "{a: [", "a"])
def test_arguments_of_another_form_are_refused(text):
    with pytest.raises(AdoptError, match="--kwargs: "):
        given_arguments(text)


def test_arguments_are_json_yaml_or_a_file(tmp_path):
    (tmp_path / "k.yaml").write_text("a: {b: [1, 2]}\n")
    assert given_arguments('{"a": {"b": [1, 2]}}') == given_arguments("a: {b: [1, 2]}") == {"a": {"b": [1, 2]}}
    assert given_arguments(str(tmp_path / "k.yaml")) == {"a": {"b": [1, 2]}}


def test_arguments_in_a_checkpoint_are_found_by_their_path(tmp_path):
    torch.save({"args": {"model": {"dim": 3, "other": torch.ones(2)}}}, tmp_path / "x.pt")
    file = open_checkpoint(tmp_path / "x.pt")
    assert arguments_in(file, "args.model") == ({"dim": 3}, ["other"])
    with pytest.raises(AdoptError, match="no net at args; there are model"):
        arguments_in(file, "args.net")
    with pytest.raises(AdoptError, match="no mapping of names to values"):
        arguments_in(file, "args.model.dim")


@pytest.mark.parametrize("text", ["3,4", "x", "0x3", "1x3:float8", "1x99999999999"])
def test_an_input_of_another_form_is_refused(text):
    with pytest.raises(AdoptError, match="expected a shape such as 1x3x224x224"):
        parse_input(text)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["1x3", "y=1x3"], "--input y: forward takes x, mask"),
        (["1x3", "1x3", "1x3"], "3 are given, and forward takes 2"),
        (["mask=1x3"], "the first input of forward is x; say it first"),
        (["1x3", "2x3"], "the inputs have batches of different sizes"),
        (["1x3", "x=1x3"], "an input is given twice"),
    ],
)
def test_inputs_that_forward_does_not_take_are_refused(inputs, message):
    with pytest.raises(AdoptError) as error:
        name_inputs([parse_input(text) for text in inputs], ["x", "mask"], None)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        (ProcessorOptions(mean=(0.5,)), "1x3x8x8", "--mean goes with --modality image"),
        (ProcessorOptions("image"), "1x3x8x8", "--modality image needs --mean and --std"),
        (ProcessorOptions("image", (0.5,) * 3, (0.5,) * 3), "1x1x8x8", "--input is 1x3xHxW then, got 1x1x8x8"),
        (ProcessorOptions("image", (0.5,), (0.5,)), "1x3x8x8", "three numbers each"),
        (ProcessorOptions("text"), "1x8", "--modality text needs --tokenizer"),
        (
            ProcessorOptions("image", (0.5,) * 3, (0.5,) * 3),
            "1x3x8x8:uint8",
            "--modality image gives float32, not uint8",
        ),
        (ProcessorOptions("depth"), "1x8x8", "--input is 1x1xHxW then, got 1x8x8"),
        (ProcessorOptions("image", units={"unit_scale": 0.1}), "1x3x8x8", "--unit-scale goes with --modality depth"),
        (ProcessorOptions("text", metres=True), "1x8", "--metres goes with --modality depth"),
    ],
)
def test_options_of_raw_inputs_that_do_not_fit_are_refused(options, shape, message):
    with pytest.raises(AdoptError) as error:
        reader_of(options, name_inputs([parse_input(shape)], ["x"], options.modality)[0])
    assert message in str(error.value)
