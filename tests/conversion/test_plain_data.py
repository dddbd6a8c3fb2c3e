"""What a checkpoint says about itself becomes bounded JSON that does no harm where it is shown."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_encoders.checkpoints.checkpoint import Stub, TensorHandle
from hf_encoders.conversion.plain_data import harmless, plain_data, plain_metadata


class Unreadable:
    """A storage whose reading is a mistake."""

    nbytes = 8

    def read(self, start, count, itemsize):
        raise AssertionError("its values were read")


def omega(**entries):
    """An OmegaConf tree: each node knows its parent."""
    tree = Stub("omegaconf.dictconfig.DictConfig")
    nodes = {
        key: Stub("omegaconf.nodes.AnyNode", state={"_val": value, "_parent": tree, "_metadata": Stub("m.M")})
        for key, value in entries.items()
    }
    tree.state = {"_content": nodes, "_parent": None, "_metadata": Stub("omegaconf.base.ContainerMetadata")}
    return tree


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "nan"),
        (2 + 1j, "(2+1j)"),
        (1 << 4000, "a number of 4001 bits"),
        (b"abc", "3 bytes"),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.zeros((40, 50)), "an array of shape [40, 50]"),
        (torch.tensor(3), 3),
        (torch.zeros(40, 50), "an array of shape [40, 50]"),
        ({3, 1, 2}, [1, 2, 3]),
        ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "None": "b", "[1, 2]": "c"}),
        ("caf\udce9", "caf\\udce9"),
        (Stub("argparse.Namespace", state={"lr": 0.5}), {"__class__": "argparse.Namespace", "lr": 0.5}),
        (Stub("research.Mode", arguments=(1,)), {"__class__": "research.Mode", "arguments": [1]}),
        (Stub("research.Slots", state=(None, {"a": 1})), {"__class__": "research.Slots", "a": 1}),
        (Stub("collections.deque", items=[1, 2]), {"__class__": "collections.deque", "items": [1, 2]}),
        (Stub("easydict.EasyDict", state={"a": 1}, entries={"a": 1}), {"__class__": "easydict.EasyDict", "a": 1}),
        (Stub("research.Kind", is_instance=False), {"__class__": "research.Kind"}),
        (Stub("torch.float32", is_instance=False), "torch.float32"),
        (Stub("torch.device", arguments=("cuda", 1)), "cuda:1"),
        (Stub("torch.Size", arguments=([2, 3],)), [2, 3]),
        (Stub("pathlib.PosixPath", arguments=("/", "home", "anna", "x.png")), "…/x.png"),
        (Stub("pathlib.PurePosixPath", arguments=("runs/7",)), "runs/7"),
        (Stub("pathlib.WindowsPath", arguments=("C:\\", "Users", "anna", "x.png")), "…/x.png"),
        (Stub("datetime.datetime", arguments=(bytes([7, 232, 5, 6, 7, 8, 9, 0, 0, 0]),)), "2024-05-06T07:08:09"),
        (Stub("datetime.date", arguments=(bytes([7, 232, 5, 6]),)), "2024-05-06"),
        (Stub("datetime.timedelta", arguments=(1, 2, 3)), "1 day, 0:00:02.000003"),
        (omega(lr=0.5, size=128), {"lr": 0.5, "size": 128}),
    ],
)
def test_every_kind_of_value(value, expected):
    found = plain_data(value)
    assert found == expected and type(found) is type(expected)
    json.dumps(found, allow_nan=False)


def test_a_date_that_is_none_is_data():
    found = plain_data(Stub("datetime.datetime", arguments=(bytes(10),)))
    assert found == {"__class__": "datetime.datetime", "arguments": ["10 bytes"]}


def test_what_contains_itself_is_a_reference_in_its_place():
    config = {"lr": 1}
    config["self"] = config
    stub = Stub("a.B", state={"items": [config]})
    stub.state["me"] = stub
    found = plain_data({"config": config, "stub": stub})
    assert found["config"] == {"lr": 1, "self": "(the same as config)"}
    inner = {"lr": 1, "self": "(the same as stub.items.0)"}
    assert found["stub"] == {"__class__": "a.B", "items": [inner], "me": "(the same as stub)"}


def test_what_stands_in_two_places_is_shown_in_both():
    shared = [1]
    assert plain_data({"a": shared, "b": shared}) == {"a": [1], "b": [1]}


def test_long_and_deep_things_are_summed_up():
    deep = []
    for _ in range(100):
        deep = [deep]
    found = plain_data(
        {"list": list(range(5000)), "text": "x" * 200_000, "dict": dict.fromkeys(range(5000)), "d": deep}
    )
    assert found["list"][:11] == [*range(10), "… 4,980 more"] and found["list"][-1] == 4999 and len(found["list"]) == 21
    assert found["text"].endswith("… (200,000 letters)") and len(found["text"]) < 100_100
    assert len(found["dict"]) == 1001 and found["dict"]["…"] == "4,000 more"
    assert "too deep" in json.dumps(found["d"], ensure_ascii=False)


def test_a_bomb_of_shared_lists_stays_small():
    bomb = [0] * 1000
    for _ in range(10):
        bomb = [bomb] * 1000
    assert len(json.dumps(plain_data(bomb))) < 10_000_000


def test_a_dictionary_of_many_tensors_is_one_line():
    tensors = {f"w{number}": torch.ones(2) for number in range(30)}
    assert plain_data({"discriminator": tensors, "few": {"a": torch.ones(2)}}) == {
        "discriminator": "30 tensors", "few": {"a": [1, 1]},
    }  # fmt: skip
    assert plain_metadata({**tensors, "epoch": 1}) == {"epoch": 1, "…": "30 tensors"}


def test_tensors_are_not_read_if_they_are_not_to_be():
    handle = TensorHandle(torch.float32, (2,), storage=Unreadable(), stride=(1,))
    assert plain_data({"loss": handle}, read_tensors=False) == {"loss": "an array of shape [2]"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", "a\nb\tc"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("\x9b2J\u202eevil\u2066", "\\x9b2J\\u202eevil\\u2066"),
        ("<!-- end: title -->", "&lt;!-- end: title --&gt;"),
        ("a < b", "a < b"),
    ],
)
def test_texts_do_no_harm(text, shown):
    assert harmless(text) == shown


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.builds(lambda name, state, items: Stub(name, state=state, items=items), st.text(), inner, st.lists(inner))
        | st.builds(lambda arguments: Stub("pathlib.Path", arguments=tuple(arguments)), st.lists(inner))
        | st.builds(lambda arguments: Stub("datetime.datetime", arguments=tuple(arguments)), st.lists(inner))
    ),
)


@given(values)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_anything_becomes_json(value):
    text = json.dumps(plain_data(value), allow_nan=False, ensure_ascii=False)
    text.encode("utf-8")
    assert text.isprintable() and "<!--" not in text
