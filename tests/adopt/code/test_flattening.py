import ast
import importlib
import sys
from pathlib import Path

import pytest

from hf_encoders.adopt.code.flattening import flatten
from hf_encoders.adopt.code.source_tree import SourceTree
from hf_encoders.adopt.errors import AdoptError

PLAIN = "class Encoder:\n    pass\n"


def project(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def flat(folder: Path, files: dict[str, str], main: str, name: str = "Encoder", taken: tuple[str, ...] = ()):
    return flatten(SourceTree(project(folder, files) / main), name, taken=taken)


def imported(folder: Path, code, monkeypatch):
    """The main module of flat code, imported as the Hub's remote code is: from a package of siblings."""
    package = folder / "flat_package"
    project(package, {"__init__.py": "", **{f"{name}.py": text for name, text in code.files.items()}})
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.startswith("flat_package")]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module(f"flat_package.{code.main}")


def test_a_file_alone_stays_as_it_is_written(tmp_path):
    text = (
        '"""A network."""\n\nimport math\n\n# Wide.\nWIDTH = 4\n\n\nclass Encoder:\n    w = math.sqrt(WIDTH)  # why\n'
    )
    code = flat(tmp_path, {"net.py": text}, "net.py")
    assert code.files == {"net": text}
    assert (code.main, code.libraries) == ("net", [])


def test_what_the_class_does_not_need_is_left_behind_with_its_imports(tmp_path):
    text = (
        "import torch, wandb\nimport argparse\nfrom lightning import LightningModule, seed\n\n\n"
        "class Lit(LightningModule):\n    pass\n\n\n"
        "class Encoder:\n    x = torch.nn\n\n\nif __name__ == '__main__':\n    argparse.ArgumentParser()\n"
    )
    code = flat(tmp_path, {"net.py": text}, "net.py")
    assert code.files == {"net": "import torch\n\n\nclass Encoder:\n    x = torch.nn\n"}
    assert code.libraries == ["torch"]


def test_subpackages_become_siblings_and_equal_names_get_their_folder(tmp_path, monkeypatch):
    files = {
        "pkg/__init__.py": "from .net import Encoder\n",
        "pkg/net.py": "from .utils import double\nfrom .blocks.attention import Attention as Att\n\n\n"
        "class Encoder:\n    value = double(Att.value)\n",
        "pkg/utils.py": "def double(x):\n    return 2 * x\n",
        "pkg/blocks/__init__.py": "raise ImportError('no Python file of the package is run but those it names')\n",
        "pkg/blocks/attention.py": "from ..utils import double\nfrom .utils import three\n\n\n"
        "class Attention:\n    value = double(three)\n",
        "pkg/blocks/utils.py": "three = 3\n",
    }
    code = flat(tmp_path, files, "pkg/net.py")
    assert sorted(code.files) == ["attention", "blocks_utils", "net", "utils"]
    assert "from .blocks_utils import three" in code.files["attention"]
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 12


@pytest.mark.parametrize(
    ("line", "use"),
    [
        ("from . import layers", "layers.four"),
        ("from . import layers as l", "l.four"),
        ("from .layers import four", "four"),
        ("from .layers import *", "four"),
        ("import pkg.layers", "pkg.layers.four"),
        ("import pkg.layers as deep", "deep.four"),
        ("from pkg import layers", "layers.four"),
        ("from pkg.layers import four as f", "f"),
    ],
)
def test_every_form_of_import_is_followed(tmp_path, monkeypatch, line, use):
    files = {
        "pkg/__init__.py": "",
        "pkg/net.py": f"{line}\n\n\nclass Encoder:\n    value = {use}\n",
        "pkg/layers.py": "import wandb_is_not_here\n\nfour = 4\n" if "*" not in line else "four = 4\n",
    }
    code = flat(tmp_path, files, "pkg/net.py")
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 4
    assert code.libraries == []


def test_a_package_that_imports_its_own_modules_passes_them_on(tmp_path, monkeypatch):
    files = {
        "lib/__init__.py": "",
        "lib/nn/__init__.py": "from .net import Encoder\nfrom . import layers\n",
        "lib/nn/net.py": "from lib.nn import layers as L\n\n\nclass Encoder:\n    value = L.four\n",
        "lib/nn/layers.py": "four = 4\n",
    }
    code = flat(tmp_path, files, "lib/nn/net.py")
    assert sorted(code.files) == ["layers", "net"]
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 4


def test_a_name_of_a_package_comes_before_its_module_of_that_name(tmp_path, monkeypatch):
    files = {
        "pkg/__init__.py": "",
        "pkg/net.py": "from .act import act\n\n\nclass Encoder:\n    value = act(3)\n",
        "pkg/act/__init__.py": "from .act import act\n",
        "pkg/act/act.py": "def act(x):\n    return x + 1\n",
    }
    code = flat(tmp_path, files, "pkg/net.py")
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 4


@pytest.mark.parametrize("error", ["ImportError", "ModuleNotFoundError", "Exception"])
def test_a_module_that_a_try_does_without_may_be_missing(tmp_path, monkeypatch, error):
    lines = f"try:\n    from ._fast import four\nexcept {error}:\n    from .slow import four\n"
    files = {"pkg/__init__.py": "", "pkg/net.py": f"{lines}\n\nclass Encoder:\n    value = four\n",
             "pkg/slow.py": "four = 4\n"}  # fmt: skip
    code = flat(tmp_path, files, "pkg/net.py")
    assert sorted(code.files) == ["net", "slow"]
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 4


@pytest.mark.parametrize("use", ["globals()['Block']", "eval('Block')", "getattr(sys.modules[__name__], 'Block')"])
def test_names_that_are_looked_up_by_their_text_come_along(tmp_path, monkeypatch, use):
    block = "import sys\nimport wandb\n\n\nclass Block:\n    value = 4\n"
    block += "\n\ndef log():\n    wandb.log()\n"
    net = f"{block}\n\nclass Encoder:\n    value = {use}.value\n"
    code = flat(tmp_path, {"net.py": net}, "net.py")
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 4
    assert code.libraries == []


def test_what_is_given_to_a_library_comes_along(tmp_path, monkeypatch):
    given = "fractions.Fraction.double = double\nwandb.log = double\n"
    net = f"import fractions\nimport wandb\n\n\ndef double(self):\n    return 2 * self\n\n\n{given}"
    net += "\n\nclass Encoder:\n    value = fractions.Fraction(2).double()\n"
    code = flat(tmp_path, {"net.py": net}, "net.py")
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 4
    assert code.libraries == []


def test_folders_without_init_files_are_packages(tmp_path, monkeypatch):
    imports = "from ..common.sizes import six\nfrom .one import one\n"
    files = {"src/models/net.py": f"{imports}class Encoder:\n value = six + one\n",
             "src/common/sizes.py": "six = 6\n", "src/models/one.py": "one = 1\n"}  # fmt: skip
    code = flat(tmp_path, files, "src/models/net.py")
    assert sorted(code.files) == ["net", "one", "sizes"]
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 7


def test_an_import_in_a_function_is_followed(tmp_path, monkeypatch):
    net = "class Encoder:\n    def get(self):\n        from config import five\n        return five\n"
    code = flat(tmp_path, {"net.py": net, "config.py": "five = 5\n"}, "net.py")
    assert imported(tmp_path, code, monkeypatch).Encoder().get() == 5


def test_files_beside_each_other_are_found_without_a_package(tmp_path, monkeypatch):
    files = {"src/net.py": "from parts.config import six\nfrom utils import one\nclass Encoder:\n value = six + one\n",
             "src/parts/config.py": "six = 6\n", "src/utils.py": "one = 1\n"}  # fmt: skip
    code = flat(tmp_path, files, "src/net.py")
    assert sorted(code.files) == ["config", "net", "utils"]
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 7


def test_modules_of_the_current_folder_are_found(tmp_path, monkeypatch):
    files = {"models/net.py": "from common.sizes import six\n\n\nclass Encoder:\n    value = six\n",
             "common/sizes.py": "six = 6\n"}  # fmt: skip
    project(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    assert sorted(flat(tmp_path, {}, "models/net.py").files) == ["net", "sizes"]


def test_a_package_that_passes_a_name_on_is_followed(tmp_path, monkeypatch):
    files = {
        "pkg/__init__.py": "",
        "pkg/net.py": "from .blocks import Block\n\n\nclass Encoder:\n    value = Block.value\n",
        "pkg/blocks/__init__.py": "from .one import Block\nfrom .two import Other\n",
        "pkg/blocks/one.py": "class Block:\n    value = 8\n",
        "pkg/blocks/two.py": "import missing_library\n\n\nclass Other:\n    pass\n",
    }
    code = flat(tmp_path, files, "pkg/net.py")
    assert sorted(code.files) == ["blocks", "net", "one"]
    assert imported(tmp_path, code, monkeypatch).Encoder.value == 8


def test_registered_classes_come_along(tmp_path, monkeypatch):
    files = {
        "registry.py": "BLOCKS = {}\n\n\ndef register(cls):\n    BLOCKS[cls.__name__] = cls\n    return cls\n",
        "blocks.py": "from registry import register\n\n\n@register\nclass Res:\n    value = 9\n",
        "net.py": "import blocks\nfrom registry import BLOCKS\n\nBLOCKS['x'] = 1\n\n\n"
        "class Encoder:\n    def get(self):\n        return BLOCKS['Res'].value + BLOCKS['x']\n",
    }
    code = flat(tmp_path, files, "net.py")
    assert imported(tmp_path, code, monkeypatch).Encoder().get() == 10


def test_a_guarded_library_is_no_requirement(tmp_path):
    net = "try:\n import xformers as x\nexcept ImportError:\n x = None\nimport einops\nclass Encoder:\n y = x, einops\n"
    assert flat(tmp_path, {"net.py": net}, "net.py").libraries == ["einops"]


def test_what_type_checkers_alone_read_is_left_out(tmp_path):
    net = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import lightning\nclass Encoder:\n x: 'lightning.X'\n"
    assert "lightning\n" not in flat(tmp_path, {"net.py": net}, "net.py").files["net"]


def test_names_that_are_taken_are_not_given(tmp_path):
    files = {"pkg/__init__.py": "", "pkg/net.py": "from .modeling_x import A\n\n\nclass Encoder(A):\n    pass\n",
             "pkg/modeling_x.py": "class A:\n    pass\n"}  # fmt: skip
    assert sorted(flat(tmp_path, files, "pkg/net.py", taken=("modeling_x",)).files) == ["net", "pkg_modeling_x"]


def test_a_file_whose_name_is_no_module_gets_one(tmp_path):
    assert flat(tmp_path, {"2d-net.py": PLAIN}, "2d-net.py").main == "_2d_net"


def test_letters_of_several_bytes_move_no_edit(tmp_path, monkeypatch):
    net = "class Encoder:\n    def get(self):\n        s = 'äöü'; from layers import four\n        return four\n"
    code = flat(tmp_path, {"net.py": net, "layers.py": "four = 4\n"}, "net.py")
    ast.parse(code.files["net"])
    assert "from .layers import four" in code.files["net"]


def test_texts_of_several_lines_stay_as_they_are(tmp_path, monkeypatch):
    net = 'import wandb\n\n\n\n\nTEXT = """a\n\n\n\n   \nb"""\n\n\n\n\nclass Encoder:\n    value = TEXT\n'
    code = flat(tmp_path, {"net.py": net}, "net.py")
    assert imported(tmp_path, code, monkeypatch).Encoder.value == "a\n\n\n\n   \nb"
    assert code.files["net"].startswith("TEXT") and "\n\n\n\nclass" not in code.files["net"]


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"# -*- coding: utf-8 -*-\r\n"])
def test_a_file_is_read_as_python_reads_it(tmp_path, before):
    (tmp_path / "net.py").write_bytes(before + "class Encoder:\r\n    value = 'ä'\r\n".encode())
    assert flatten(SourceTree(tmp_path / "net.py"), "Encoder").files["net"].endswith("    value = 'ä'\n")


def test_a_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "net.py").write_bytes("# coding: latin-1\nclass Encoder:\n    value = 'ä'\n".encode("latin-1"))
    with pytest.raises(AdoptError, match="is written in iso-8859-1; save it as UTF-8"):
        SourceTree(tmp_path / "net.py")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"net.py": "class Other:\n    pass\n"}, "has no class Encoder; there are Other"),
        ({"net.py": "x = 1\n"}, "has no class Encoder; it has no classes"),
        ({"net.py": "def Encoder():\n    pass\n"}, "net.py:1: Encoder is a function, expected a class of nn.Module"),
        ({"net.py": "from other import Encoder\n"}, "net.py:1: Encoder is imported from elsewhere"),
        ({"net.py": "class Encoder(:\n"}, "net.py:1: a syntax error"),
        (
            {"net.py": "from .missing import a\n\n\nclass Encoder(a):\n    pass\n"},
            "net.py:1: imports .missing, not found",
        ),
        (
            {"net.py": "from ...far import a\n\n\nclass Encoder(a):\n    pass\n"},
            "net.py:1: imports ...far, not found",
        ),
        (
            {"net.py": "class Encoder:\n    '''\n    from .other import x\n    '''\n"},
            "net.py:3: transformers takes 'from .other import' in a text for an import",
        ),
    ],
)
def test_bad_sources_are_refused_with_their_line(tmp_path, files, message):
    from hf_encoders.adopt.code.source_tree import class_of

    with pytest.raises(AdoptError) as error:
        tree = SourceTree(project(tmp_path, files) / "net.py")
        class_of(tree.main, "Encoder")
        flatten(tree, "Encoder")
    assert message in str(error.value)
