"""Files that run code when pickle loads them run nothing here, in any container, and import no module."""

import ast
import copyreg
import os
import pickle
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch

from hf_encoders.checkpoints.checkpoint import Stub, TensorHandle
from hf_encoders.checkpoints.files import CheckpointError, open_checkpoint
from hf_encoders.checkpoints.structure import walk
from tests.conftest import ROOT
from tests.helpers.checkpoint_samples import OLD, repacked, saved


def text(value):
    """A text in a pickle of protocol 4."""
    return b"\x8c" + bytes([len(value)]) + value


# Each is a pickle of protocol 4 or older; `touch executed` is what it runs.
TOUCH, CODE = text(b"touch executed"), text(b"__import__('os').system('touch executed')")
CALL = b"cos\nsystem\n" + TOUCH + b"\x85R."
OS = b"cbuiltins\n__import__\n" + text(b"os") + b"\x85R"
FROM_TYPE = b"ctorch._tensor\n_rebuild_from_type_v2\n"
TRAP = b"ctrap_module\nTrap\n"  # importing it creates the file too
EXECUTED = {
    "REDUCE": b"cposix\nsystem\n" + TOUCH + b"\x85R.",
    "REDUCE, os": b"cos\nsystem\n" + TOUCH + b"\x85R.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + TOUCH + b"\x85R.",
    "STACK_GLOBAL of a name with dots": b"\x80\x04\x8c\x08tempfile\x8c\x0a_os.system\x93" + TOUCH + b"\x85R.",
    "INST": b"(S'touch executed'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\n" + TOUCH + b"o.",
    "EXT1": b"\x82\xf0" + TOUCH + b"\x85R.",
    "EXT2": b"\x83\xf0\x00" + TOUCH + b"\x85R.",
    "GLOBAL alone": b"ctrap_module\nTrap\n.",
    "NEWOBJ": b"\x80\x02" + TRAP + b")\x81.",
    "NEWOBJ_EX": b"\x80\x04" + TRAP + b")}\x92.",
    "BUILD": b"\x80\x02" + TRAP + b")\x81}b.",
    "APPENDS": b"\x80\x02" + TRAP + b")\x81(K\x01e.",
    "SETITEMS": b"\x80\x02" + TRAP + b")\x81(K\x01K\x01u.",
    "a key whose hash is code": b"\x80\x02}" + TRAP + b")\x81K\x01s.",
    "an item of a set whose hash is code": b"\x80\x04\x8f(" + TRAP + b")\x81\x90.",
    "getattr": b"cbuiltins\ngetattr\n" + OS + text(b"system") + b"\x86R" + TOUCH + b"\x85R.",
    "getattr of Python 2": b"c__builtin__\ngetattr\n" + OS + text(b"system") + b"\x86R" + TOUCH + b"\x85R.",
    "eval": b"cbuiltins\neval\n" + CODE + b"\x85R.",
    "exec": b"cbuiltins\nexec\n" + CODE + b"\x85R.",
    "partial": b"cfunctools\npartial\ncos\nsystem\n" + TOUCH + b"\x86R)R.",
    "methodcaller": b"coperator\nmethodcaller\n" + text(b"system") + TOUCH + b"\x86R" + OS + b"\x85R.",
    "map": b"cbuiltins\nlist\ncbuiltins\nmap\ncos\nsystem\n" + TOUCH + b"\x85\x86R\x85R.",
    "__newobj__": b"ccopyreg\n__newobj__\n" + TRAP + b"\x85R.",
    "_reconstructor": b"ccopyreg\n_reconstructor\n" + TRAP + b"cbuiltins\nobject\nN\x87R.",
    "the memo": b"cos\nsystem\nq\x000" + TOUCH + b"q\x010h\x00h\x01\x85R.",
    "a function that replaced a harmless one": b"cbuiltins\nlist\nq\x000cos\nsystem\nq\x000h\x00" + TOUCH + b"\x85R.",
    "defaultdict": b"ccollections\ndefaultdict\ncos\nsystem\n\x85R0cos\nsystem\n" + TOUCH + b"\x85R.",
    "subprocess": b"csubprocess\ngetoutput\n" + TOUCH + b"\x85R.",
    "code in a name": b"cposix\nsystem\n(" + TOUCH + b"tR.",
}  # fmt: skip
# pickle refuses these, or runs nothing by them; PyTorch might.
STRANGE = {
    "a storage of a foreign class": b"\x80\x02(\x8c\x07storagecos\nsystem\n\x8c\x010\x8c\x03cpuK\x01tQ.",
    "a module with its source": b"\x80\x02(\x8c\x06modulecos\nsystem\n\x8c\x04a.py\x8c\x04codetQ.",
    "a foreign persistent id": b"\x80\x02\x8c\x0etouch executedQ.",
    "a persistent id in text": b"Ptouch executed\n.",
    "_rebuild_from_type_v2": b"\x80\x02" + FROM_TYPE + b"(cos\nsystem\n" + TRAP + TOUCH + b"\x85}tR.",
    "_rebuild_from_type_v2 of itself": b"\x80\x02" + FROM_TYPE + b"(" + FROM_TYPE + TRAP + b"(cos\nsystem\n" + TRAP
    + TOUCH + b"\x85}t}tR.",
    "_rebuild_parameter": b"\x80\x02ctorch._utils\n_rebuild_parameter\n" + TRAP + b"\x88}\x87R.",
    "_rebuild_tensor_v2": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + TRAP + b"K\x00))\x89}tR.",
    "_rebuild_wrapper_subclass": b"\x80\x02ctorch._utils\n_rebuild_wrapper_subclass\n(" + TRAP + b"NN)tR.",
    "NumPy's _reconstruct": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n" + TRAP + b"K\x00\x85C\x01b\x87R.",
    "NumPy's scalar": b"\x80\x02cnumpy.core.multiarray\nscalar\n" + TRAP + b"C\x01b\x86R.",
    "_load_from_bytes": b"\x80\x04ctorch.storage\n_load_from_bytes\nC" + bytes([len(CALL)]) + CALL + b"\x85R.",
    "_codecs.encode": b"\x80\x02c_codecs\nencode\n\x8c\x01a\x8c\x05rot13\x86R.",
    "an unregistered extension": b"\x84\xff\xff\xff\x7f.",
    "a class in a class": b"\x80\x04\x8c\x0ctrap_module\x8c\x09Trap.Deep\x93)\x81.",
    "a state with a class": b"\x80\x02cargparse\nNamespace\n)\x81}(\x8c\x09__class__" + TRAP + b"\x8c\x08__dict__}ub.",
    "a state that looks like methods": b"\x80\x02cargparse\nNamespace\n)\x81}(\x8c\x08__hash__cos\nsystem\nub.",
    "a dtype": b"\x80\x02cnumpy\ndtype\n" + TRAP + b"\x85R.",
    "a generator of items": b"\x80\x02cbuiltins\nset\ncbuiltins\nrange\nJ\xff\xff\xff\x7f\x85R\x85R.",
    "type": b"\x80\x02cbuiltins\ntype\n\x8c\x01A)}\x87R)R.",
}  # fmt: skip
CONTAINERS = ["pickle", "zip", "deflated zip", "old format", "NumPy array of objects", "distributed metadata"]


class Runs:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A folder that is the working directory, with a module that must not be imported and a registered extension."""
    (tmp_path / "trap_module.py").write_text("open('executed', 'w')\nclass Trap:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("os", "system", 0xF0)
    yield tmp_path
    copyreg.remove_extension("os", "system", 0xF0)
    assert "trap_module" not in sys.modules and not (tmp_path / "executed").exists()


def contained(container, payload, folder):
    """The path of a file or folder of a kind that holds a pickle."""
    path = folder / "a.pth"
    match container:
        case "zip" | "deflated zip":
            method = zipfile.ZIP_STORED if container == "zip" else zipfile.ZIP_DEFLATED
            data = repacked(saved({}), method, lambda name, record: payload if name.endswith("data.pkl") else record)
            path.write_bytes(data)
        case "old format":
            whole, empty = saved({}, **OLD), pickle.dumps({}, 2)
            assert whole.count(empty) == 1
            path.write_bytes(whole.replace(empty, payload))
        case "NumPy array of objects":
            np.savez(folder / "a.npz", a=np.array([None]))
            data = (folder / "a.npz").read_bytes()
            start = zipfile.ZipFile(folder / "a.npz").read("a.npy").index(b"\n") + 1
            path = folder / "b.npz"
            path.write_bytes(repacked(data, zipfile.ZIP_STORED, lambda name, record: record[:start] + payload))
        case "distributed metadata":
            path = folder / "distributed"
            path.mkdir()
            (path / ".metadata").write_bytes(payload)
        case _:
            path.write_bytes(payload)
    return path


def read(path):
    """What is in a file; an error in one line is as good."""
    try:
        content = open_checkpoint(path).content
    except CheckpointError as error:
        assert str(error).isprintable() and error.__cause__ is None
        return None
    for value in walk(content):
        repr(value) if isinstance(value, (Stub, TensorHandle)) else None
    return content


@pytest.mark.parametrize("name", [name for name in EXECUTED if "EXT" not in name])
def test_the_files_are_dangerous(name, tmp_path):
    """What pickle makes of them: the other tests would say nothing if they were harmless."""
    (tmp_path / "trap_module.py").write_text("open('executed', 'w')\nclass Trap:\n    pass\n")
    (tmp_path / "a.pkl").write_bytes(EXECUTED[name])
    code = "import pickle; pickle.load(open('a.pkl', 'rb'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", [*EXECUTED, *STRANGE])
def test_nothing_is_executed(name, container, trap):
    payload = (EXECUTED | STRANGE)[name]
    read(contained(container, payload, trap))


@pytest.mark.parametrize("options", [{}, OLD, {"pickle_protocol": 4}, "pickle"])
@pytest.mark.parametrize("function", [os.mkdir, os.system, eval, exec, getattr, torch.load, np.load, threading.Timer])
def test_weights_beside_a_call_are_read_and_the_call_is_named(function, options, trap):
    argument = "touch executed" if function is os.system else "__import__('os').mkdir('executed')"
    content = {
        "state_dict": {"w": torch.ones(2)},
        "other": Runs(function, "executed" if function is os.mkdir else argument),
    }
    (trap / "a.pth").write_bytes(pickle.dumps(content) if options == "pickle" else saved(content, **options))
    checkpoint = open_checkpoint(trap / "a.pth")
    stub = checkpoint.content["other"]
    assert isinstance(stub, Stub) and stub.is_instance and len(stub.arguments) == 1
    assert stub.name.rpartition(".")[2] == function.__name__ and checkpoint.classes == (stub.name,)
    assert checkpoint.content["state_dict"]["w"].read().tolist() == [1, 1]
    assert not os.path.exists("executed")


def test_reading_imports_nothing_at_all(tmp_path):
    names = b"".join(
        b"c%b\nx\n0" % name for name in (b"antigravity", b"this", b"tkinter", b"idlelib", b"turtle", b"curses")
    )
    (tmp_path / "a.pth").write_bytes(b"\x80\x02" + names + b"N.")
    before = set(sys.modules)
    assert len(open_checkpoint(tmp_path / "a.pth").classes) == 6
    assert set(sys.modules) == before


def test_names_with_control_characters_are_escaped(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"\x80\x04\x8c\x06a\x1b[2J\n\x8c\x02b\r\x93)R.")
    checkpoint = open_checkpoint(tmp_path / "a.pth")
    assert checkpoint.classes == ("a\\x1b[2J\\n.b\\r",) and checkpoint.content.name == checkpoint.classes[0]


def test_the_package_has_no_other_way_to_read_checkpoints():
    """Neither `torch.load` nor `pickle` is used where checkpoints are read and converted."""
    for folder in ("checkpoints", "conversion"):
        for path in (ROOT / "hf_encoders" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
                assert not {"pickle", "marshal", "shelve", "importlib", "joblib", "dill"} & set(names), path
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    assert called not in ("torch.load", "np.load", "torch.jit.load", "eval", "exec", "__import__"), path
