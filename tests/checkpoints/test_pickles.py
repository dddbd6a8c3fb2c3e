"""Objects of classes that are not imported, and the tensors of every kind and age of PyTorch."""

import argparse
import collections
import copy
import dataclasses
import datetime
import enum
import pathlib
import pickle
import random
import struct

import numpy as np
import pytest
import torch

from hf_encoders.checkpoints.checkpoint import Stub, TensorHandle
from hf_encoders.checkpoints.files import CheckpointError, open_checkpoint
from tests.helpers.checkpoint_samples import OLD, saved


class Mode(enum.Enum):
    FAST = 1


class Level(enum.IntEnum):
    HIGH = 3


class StateDict(dict):
    pass


class Names(list):
    pass


class Text(str):
    pass


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float
    steps: int = 3


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a, self.b = a, b


Point = collections.namedtuple("Point", "x y")


class WithKeywords:
    def __new__(cls, *, size):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"size": 5}


def function():
    """Pickled by its name."""


def read(folder, data):
    (folder / "a.pth").write_bytes(data)
    return open_checkpoint(folder / "a.pth")


def of(value):
    """What a stub keeps, without what is empty."""
    assert isinstance(value, Stub), value
    kept = {name: getattr(value, name) for name in ("arguments", "keywords", "state", "items", "entries")}
    return value.name.rpartition(".")[2], {name: data for name, data in kept.items() if data}


@pytest.mark.parametrize("protocol", range(6))
def test_objects_of_any_class_are_kept_as_data(protocol, tmp_path):
    content = {
        "namespace": argparse.Namespace(lr=1, inner=argparse.Namespace(a=2)),
        "mode": Mode.FAST,
        "level": Level.HIGH,
        "dict": StateDict(a=1),
        "list": Names([1, 2]),
        "text": Text("abc"),
        "point": Point(1, 2),
        "config": Config(0.5),
        "path": pathlib.PurePosixPath("/data/x"),
        "date": datetime.date(2020, 1, 2),
        "default": collections.defaultdict(list, a=[1]),
        "ordered": collections.OrderedDict(b=1, a=2),
        "counter": collections.Counter("aab"),
        "deque": collections.deque([1, 2], maxlen=3),
        "class": Config,
        "function": function,
        "range": range(1, 5),
        "slice": slice(1, 2),
        "random": random.Random(3),
    }
    if protocol >= 2:
        content |= {"slots": Slots(1, [2])}
    if protocol >= 4:
        content |= {"keywords": WithKeywords(size=5)}
    checkpoint = read(tmp_path, pickle.dumps(content, protocol))
    found = checkpoint.content
    assert list(found) == list(content)
    name, kept = of(found["namespace"])
    assert name == "Namespace" and kept["state"]["lr"] == 1 and of(kept["state"]["inner"])[1] == {"state": {"a": 2}}
    assert of(found["mode"]) == ("Mode", {"arguments": (1,)}) and of(found["level"]) == ("Level", {"arguments": (3,)})
    assert of(found["dict"])[1] == {"entries": {"a": 1}} and of(found["list"])[1] == {"items": [1, 2]}
    assert "abc" in of(found["text"])[1]["arguments"]
    assert of(found["point"])[1]["arguments"] in ((1, 2), ((1, 2),))
    assert of(found["config"]) == ("Config", {"state": {"lr": 0.5, "steps": 3}})
    assert "".join(of(found["path"])[1]["arguments"]).replace("/", "") == "datax"
    assert of(found["date"])[1]["arguments"] == (b"\x07\xe4\x01\x02",)
    assert (found["default"], found["ordered"], found["counter"]) == ({"a": [1]}, {"b": 1, "a": 2}, {"a": 2, "b": 1})
    assert list(found["ordered"]) == ["b", "a"] and found["deque"] == [1, 2]
    for key, name in (("class", "Config"), ("function", "function")):
        assert of(found[key]) == (name, {}) and not found[key].is_instance
    assert of(found["range"])[1]["arguments"] == (1, 5, 1) and of(found["slice"])[1]["arguments"] == (1, 2, None)
    assert "Random" in repr(found["random"])
    if protocol >= 2:
        assert of(found["slots"])[1] == {"state": (None, {"a": 1, "b": [2]})}
    if protocol >= 4:
        assert of(found["keywords"])[1] == {"keywords": {"size": 5}}
    assert "tests.checkpoints.test_pickles.Mode" in checkpoint.classes
    assert not any(name.startswith(("builtins.object", "copyreg", "collections")) for name in checkpoint.classes)
    assert repr(found) and copy.deepcopy(found)


def test_structures_that_contain_themselves_are_kept(tmp_path):
    content = {"list": [1], "node": argparse.Namespace(name="a"), "tuple": ([],)}
    content["list"].append(content["list"])
    content["node"].parent = content["node"]
    content["tuple"][0].append(content["tuple"])
    content["itself"] = content
    for protocol in range(6):
        found = read(tmp_path, pickle.dumps(content, protocol)).content
        assert found["itself"] is found and found["list"][1] is found["list"]
        assert found["node"].state["parent"] is found["node"] and found["tuple"][0][0] is found["tuple"]


def test_random_states_are_plain(tmp_path):
    state = {"numpy": np.random.RandomState(3), "generator": np.random.default_rng(3), "legacy": np.random.get_state()}
    state |= {"python": random.getstate(), "torch": torch.get_rng_state()}
    found = read(tmp_path, saved(state)).content
    assert isinstance(found["numpy"], Stub) and isinstance(found["generator"], Stub)
    assert found["python"] == state["python"] and torch.equal(found["torch"].read(), state["torch"])
    np.testing.assert_array_equal(found["legacy"][1], state["legacy"][1])


def test_keys_that_are_no_keys_of_checkpoints_are_kept_as_stubs(tmp_path):
    content = {1 << 100: "large", 1j: "complex", (1, (2, "a")): "tuple", frozenset([1]): "set", Mode.FAST: "enum"}
    found = read(tmp_path, pickle.dumps(content)).content
    assert list(found.values()) == list(content.values())
    kinds = [type(key) for key in found]
    assert kinds == [Stub, Stub, tuple, frozenset, Stub] and [key.state for key in found if isinstance(key, Stub)][
        :2
    ] == [
        1 << 100,
        1j,
    ]


class Wrapped(torch.Tensor):
    pass


@pytest.mark.parametrize("options", [{}, OLD])
def test_tensors_of_every_kind_are_told(options, tmp_path):
    with_attribute = torch.ones(2)
    with_attribute.note = "kept elsewhere"
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    parameter.sharded = True
    dense = {
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "with state": parameter,
        "with attribute": with_attribute,
        "subclass": torch.ones(2).as_subclass(Wrapped),
        "buffer": torch.nn.Buffer(torch.ones(2)),
        "transposed": torch.arange(6).reshape(2, 3).T,
        "expanded": torch.ones(1).expand(3),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "negative": torch.tensor([1 + 2j]).conj().imag,
        "bfloat16": torch.ones(2, dtype=torch.bfloat16),
        "float8": torch.ones(2, dtype=torch.float8_e4m3fn),
        "uint16": torch.ones(2, dtype=torch.uint16),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "storage": torch.arange(3).untyped_storage(),
    }
    others = {
        "sparse": torch.eye(2).to_sparse(),
        "sparse rows": torch.eye(2).to_sparse_csr(),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "by channels": torch.quantize_per_channel(torch.eye(2), torch.ones(2), torch.zeros(2), 0, torch.qint8),
        "meta": torch.empty(2, device="meta"),
        "nested": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    }
    if options:
        del dense["float8"], dense["uint16"]  # the old format has no classes of storages for them
    found = read(tmp_path, saved(dense | others, **options)).content
    for name, expected in dense.items():
        value = found[name].read()
        if name == "storage":
            value, expected = value.view(torch.int64), torch.arange(3)
        expected = expected.as_subclass(torch.Tensor).detach()
        assert value.dtype == expected.dtype and torch.equal(value, expected), name
    kinds = {name: found[name].kind for name in others}
    assert kinds == {name: name if name in kinds.values() else "quantized" for name in kinds} | {
        "sparse rows": "sparse"
    }
    assert found["sparse"].shape == (2, 2) and found["meta"].shape == (2,)
    for name in others:
        with pytest.raises(CheckpointError, match=f"holds a {kinds[name]} tensor"):
            found[name].read()


def test_tensors_of_devices_that_save_arrays_are_read(tmp_path):
    """XLA's tensors, and those of Ascend's plug-in."""
    array = np.arange(3, dtype="f4")

    class Device:
        def __init__(self, function, *arguments):
            self.reduced = function, arguments

        def __reduce__(self):
            return self.reduced

    rebuild = torch._utils._rebuild_device_tensor_from_numpy
    content = {"xla": Device(rebuild, array, torch.bfloat16, "xla:0", False), "device": torch.device("cuda", 1)}
    data = saved(content, **OLD)
    found = read(tmp_path, data).content
    assert torch.equal(found["xla"].read(), torch.arange(3).bfloat16()) and found["device"] == "cuda:1"
    npu = saved({"w": torch.arange(3.0)}, **OLD).replace(
        b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch_npu.utils.storage\n_rebuild_npu_tensor\n"
    )
    assert read(tmp_path, npu).content["w"].read().tolist() == [0, 1, 2]


def old_pickle(*operations):
    return b"\x80\x02" + b"".join(operations) + b"."


def test_files_of_the_first_versions_are_read(tmp_path):
    """Parameters that were objects with a state, storages that were views of others."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    storage = b"((U\x07storagectorch\nFloatStorage\nU\x0294U\x03cpuK\x05(U\x0295K\x01K\x03ttQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n" + storage + b"K\x01(K\x02t(K\x01ttR"
    state = b"ctorch.nn.parameter\nParameter\nq\x01)\x81q\x02(" + tensor + b"\x88Ntb"
    called = b"ctorch.nn.parameter\nParameter\n" + tensor + b"\x88\x86R"
    content = old_pickle(b"}(U\x01a", tensor, b"U\x01b", state, b"U\x01c", called, b"U\x01dh\x02u")
    values = struct.pack("<q5f", 5, 10, 11, 12, 13, 14)
    found = read(tmp_path, magic + content + pickle.dumps(["94"], 2) + values).content
    assert all(isinstance(value, TensorHandle) and value.read().tolist() == [12, 13] for value in found.values())
    assert len(found) == 4 and len({value.identity for value in found.values()}) == 1


def test_strings_of_python_2_are_texts_or_bytes(tmp_path):
    data = b"(dp0\nS'a\\x41\\n\\'\\101'\np1\nI01\nsS\"b\"\nS'\\xff'\nsVc\\u20ac\nL5L\nsS'd'\nF1.5\nsS'e'\nI00\ns."
    assert read(tmp_path, data).content == {"aA\n'A": True, "b": b"\xff", "c€": 5, "d": 1.5, "e": False}
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
    array += (
        b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\ntb."
    )
    assert read(tmp_path, array).content.tolist() == [1, 2]


ARRAY = pickle.dumps(np.arange(2), 2)[2:-1]
PLACES = {
    "a persistent id": b"((" + ARRAY + b"NNNNtQ.",
    "an encoding": b"c_codecs\nencode\nU\x01a" + ARRAY + b"\x86R.",
    "a dtype": b"cnumpy\ndtype\n" + ARRAY + b"\x85R.",
    **{
        f"part {place} of a dtype's state": b"cnumpy\ndtype\nU\x02f4\x85R("
        + b"".join(ARRAY if part == place else b"N" for part in range(9))
        + b"tb."
        for place in range(9)
    },
    "a dtype's fields": b"cnumpy\ndtype\nU\x02f4\x85R(K\x03U\x01<" + 3 * ARRAY + b"J\xff\xff\xff\xffNK\x00tb.",
    "a unit": b"cnumpy\ndtype\nU\x02M8\x85R(K\x04U\x01<NNNJ\xff\xff\xff\xffNK\x00N(C\x01sK\x01" + 2 * ARRAY
    + b"t\x86tb.",
    "an order": b"cnumpy.core.multiarray\n_reconstruct\nNNN\x87R(K\x01)cnumpy\ndtype\nU\x02u1\x85R" + ARRAY
    + b"C\x01atb.",
    "an order of protocol 5": b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\nU\x02u1\x85R)" + ARRAY + b"tR.",
    "a version": pickle.dumps(0x1950A86A20F9469CFC6C, 2)[2:] + b"\x80\x02" + ARRAY + b".",
    "a key": b"}" + ARRAY + b"Ns.",
    "a name of an argument": b"ca\nb\n)}" + ARRAY + b"Ns\x92.",
    "a device": b"ctorch\ndevice\n" + 2 * ARRAY + b"\x86R.",
    "a size": b"ctorch\nSize\n" + ARRAY + b"\x85R.",
    "metadata of a tensor": b"ctorch._utils\n_rebuild_tensor_v2\n(" + 7 * ARRAY + b"tR.",
    "a subclass": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + 4 * ARRAY + b"tR.",
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_arrays_where_something_else_belongs_are_no_error_of_ours(place, tmp_path):
    """Arrays compare with anything value by value, and have no truth of their own."""
    try:
        read(tmp_path, b"\x80\x02" + PLACES[place])
    except CheckpointError as error:
        assert str(error).startswith(str(tmp_path)) and error.__cause__ is None


def test_the_memo_is_as_large_as_what_is_in_it(tmp_path):
    assert read(tmp_path, b"\x80\x02K\x05r\xff\xff\xff\xff0j\xff\xff\xff\xff.").content == 5
    with pytest.raises(CheckpointError, match="refers to what it has not made"):
        read(tmp_path, b"\x80\x02h\x05.")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x06N.", "a pickle of protocol 6"),
        (b"\x80\x02.", "more from its stack than is there"),
        (b"\x80\x021.", "more from its stack than is there"),
        (b"\x80\x02N", "ends early"),
        (b"\x80\x02NN)R.", "calls what is no class or function"),
        (b"\x80\x02ca\nb\nNR.", "calls what is no class or function"),
        (b"\x80\x02NNa.", "appends to what is no list"),
        (b"\x80\x02N(NNu.", "sets items of what is no dictionary"),
        (b"\x80\x02}(Nu.", "sets items of what is no dictionary"),
        (b"\x80\x02NNb.", "gives a state to what has none"),
        (b"\x80\x04NN\x93.", "names a class by what is no text"),
        (b"\x80\x02c" + b"a" * 5000 + b"\nb\n.", "a name of 5,000 bytes"),
        (b"\x80\x05\x97.", "refers to something outside of it"),
        (b"\x80\x02X\x01\0\0\0\xff.", "a text is not UTF-8"),
        (b"\x80\x02Ix\n.", "an integer that is none"),
        (b"\x80\x02Fx\n.", "a number that is none"),
        (b"\x80\x02Sx\n.", "a string without quotes"),
        (b"\x80\x02gx\n.", "a reference that is no number"),
        (b"\x80\x02V\\u00\n.", "a text is not escaped rightly"),
        (b"\x80\x02\xff.", "it has no operation"),
    ],
)
def test_damaged_pickles_say_what_is_wrong(data, said, tmp_path):
    with pytest.raises(CheckpointError, match=said):
        read(tmp_path, data)
