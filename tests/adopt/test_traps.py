"""What goes wrong with research code in transformers, one by one: it ends in the same bits, a note, or one line."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModel

from hf_encoders import command_line
from hf_encoders.adopt.adopt import AdoptOptions, adopt
from hf_encoders.adopt.code.target import parse_target
from hf_encoders.adopt.errors import AdoptError
from hf_encoders.adopt.inputs import parse_input
from hf_encoders.commands import main as cli
from tests.helpers.own_networks import imported, trained, write_project

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"


@dataclass(frozen=True)
class Trap:
    """A network `Net` of a file, and what is said about it."""

    body: str
    inputs: tuple[str, ...] = ("1x4",)
    arguments: dict[str, object] = field(default_factory=dict)
    embedding: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    example: tuple[torch.Tensor, ...] = ()  # what makes layers that are lazy
    made_with: tuple[object, ...] = ()


def net(init: str, forward: str, takes: str = "x", arguments: str = "") -> str:
    lines = "\n".join(f"        {line}" for line in init.splitlines())
    steps = "\n".join(f"        {line}" for line in forward.splitlines())
    return (
        f"class Net(nn.Module):\n    def __init__(self{arguments}):\n        super().__init__()\n{lines}\n\n"
        f"    def forward(self, {takes}):\n{steps}\n"
    )


SAME_BITS = {
    "buffers and tensors computed in the constructor": Trap(net(
        "self.lin = nn.Linear(4, 4)\n"
        "self.register_buffer('steps', torch.arange(4) / 3, persistent=False)\n"
        "self.register_buffer('kept', torch.full((4,), 2.0))\n"
        "self.table = torch.linspace(0, 1, 4).exp()\n"
        "self.scale = float(torch.tensor(3.0).sqrt().item())",
        "return self.lin(x) * self.steps + self.table * self.kept * self.scale",
    )),
    "weight normalisation, old, new and by hand": Trap(net(
        "self.old = torch.nn.utils.weight_norm(nn.Linear(4, 4))\n"
        "self.new = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))\n"
        "self.own = nn.Module()\n"
        "self.own.weight_g, self.own.weight_v = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))\n"
        "self.rnn = torch.nn.utils.weight_norm(nn.GRU(4, 4, batch_first=True), 'weight_hh_l0')",
        "x = self.new(self.old(x)) * self.own.weight_g + self.own.weight_v\n"
        "return self.rnn(x[:, None])[0][:, 0]",
    )),
    "spectral normalisation": Trap(net(
        "self.old = torch.nn.utils.spectral_norm(nn.Linear(4, 4))\n"
        "self.new = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))",
        "return self.new(self.old(x))",
    )),
    "old names of transformers": Trap(net(
        "self.LayerNorm = nn.Module()\n"
        "self.LayerNorm.gamma, self.LayerNorm.beta = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))",
        "return F.layer_norm(x, (4,), self.LayerNorm.gamma, self.LayerNorm.beta)",
    )),
    "layers that learn their sizes": Trap(
        net("self.layers = nn.Sequential(nn.LazyLinear(6), nn.LazyBatchNorm1d())", "return self.layers(x)"),
        example=(torch.ones(2, 4),),
    ),
    "BatchNorm in train mode": Trap(net(
        "self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()",
        "return self.layers(x)",
    )),
    "functions and modules of TorchScript": Trap(
        "@torch.jit.script\ndef twice(x):\n    return 2 * x\n\n\n"
        + net("self.lin = torch.jit.script(nn.Linear(4, 4))", "return twice(self.lin(x))"),
    ),
    "weights that are one, modules that are one": Trap(net(
        "self.one, self.two, self.one_more = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)\n"
        "self.two.weight = self.one.weight\n"
        "self.norm = nn.BatchNorm1d(4)\n"
        "self.same = self.norm",
        "return self.same(self.norm(self.two(self.one(self.one_more(x)))))",
    )),
    "its own part called network": Trap(net(
        "self.network, self.network_in, self.model = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)",
        "return self.model(self.network(self.network_in(x)))",
    )),
    "a model of transformers inside": Trap(
        "from transformers import BertConfig, BertModel\n\n\n"
        + net(
            "sizes = dict(vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)\n"
            "self.bert = BertModel(BertConfig(**sizes))\n"
            "self.out = nn.Linear(8, 3)",
            "return self.out(self.bert(tokens).last_hidden_state[:, 0])", "tokens",
        ),
        inputs=("1x5:int64",),
    ),
    "a class called as one of transformers": Trap(
        net("self.lin = nn.Linear(4, 4)", "return self.lin(x)").replace("Net", "BertModel") + "\n\nNet = BertModel\n",
    ),
    "star imports, and modules called config and utils": Trap(
        "from config import *\nfrom utils import block\n\n\n" + net("self.lin = block(WIDTH)", "return self.lin(x)"),
        files={"config.py": "WIDTH = 4\n_HIDDEN = 5\n", "utils.py": "from torch import nn\n\n\n"
               "def block(width):\n    return nn.Linear(width, width)\n"},
    ),
    "a script that reads its arguments when it is imported": Trap(
        "import argparse\n\nparser = argparse.ArgumentParser()\nparser.add_argument('data')\n"
        "args = parser.parse_args()\n\n\n" + net("self.lin = nn.Linear(4, 4)", "return self.lin(x)"),
    ),
    "several inputs": Trap(
        net("self.lin = nn.Linear(4, 4)", "return self.lin(x) * weights + (0 if more is None else more)",
            "x, weights, more=None"),
        inputs=("1x4", "weights=1x4"),
    ),
    "a dictionary": Trap(
        net("self.lin = nn.Linear(4, 4)", "return {'a': {'b': [self.lin(x), x]}}"), embedding="output['a']['b'][0]"
    ),
    "an object with attributes": Trap(
        "from collections import namedtuple\n\nOut = namedtuple('Out', 'tokens extra')\n\n\n"
        + net("self.lin = nn.Linear(4, 4)", "return Out(self.lin(x)[:, None], None)"), embedding="output.tokens.mean(1)"
    ),
    "stages": Trap(
        net("self.lin = nn.Linear(4, 4)", "return [x, self.lin(x)]"), embedding="output[-1]"
    ),
    "arguments by place and *args": Trap(
        net("self.layers = nn.ModuleList(nn.Linear(4, 4 * width) for width in widths)\nself.kernel = kernel",
            "return sum(layer(x).sum(1, keepdim=True) for layer in self.layers) * self.kernel", "*inputs",
            ", kernel, /, *widths, **more").replace("layer(x)", "layer(inputs[0])"),
        arguments={"kernel": 2, "widths": [1, 2]}, made_with=(2, 1, 2),
    ),
    "arguments whose names transformers has": Trap(
        net("self.lin = nn.Linear(4, dtype)\nself.more = nn.Linear(dtype, encoder['dim'] * decoder.dim)",
            "return self.more(self.lin(x))", arguments=", dtype, encoder, decoder, model_type='a', field=2"),
        arguments={"dtype": 3, "encoder": {"dim": 2}, "decoder": {"dim": 2}},
        made_with=(3, {"dim": 2}, SimpleNamespace(dim=2)),
    ),
    "one dataclass of settings, with a property": Trap(
        "from dataclasses import dataclass\n\n\n@dataclass\nclass Settings2:\n    dim: int = 4\n    heads: int = 2\n\n"
        "    @property\n    def head_dim(self):\n        return self.dim // self.heads\n\n\n"
        + net("self.lin = nn.Linear(cfg.dim, cfg.head_dim)", "return self.lin(x)", arguments=", cfg: 'Settings2'"),
        arguments={"heads": 1}, made_with=(SimpleNamespace(dim=4, head_dim=4),),
    ),
    "dataclasses of settings within each other": Trap(
        "from dataclasses import dataclass, field\nfrom typing import Optional\n\n\n"
        "@dataclass\nclass Stem:\n    dim: int = 4\n    heads: int = 2\n\n\n"
        "@dataclass\nclass All:\n    stem: Stem = field(default_factory=Stem)\n    out: int = 3\n\n\n"
        + net("cfg = cfg or All()\nself.lin = nn.Linear(cfg.stem.dim, cfg.out * cfg.stem.heads)",
              "return self.lin(x)", arguments=", cfg: Optional[All] = None"),
        arguments={"stem": {"heads": 1}}, made_with=(SimpleNamespace(stem=SimpleNamespace(dim=4, heads=1), out=3),),
    ),
    "complex numbers": Trap(net(
        "self.filter = nn.Parameter(torch.ones(3, dtype=torch.cfloat) * 1j)",
        "return torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=4)",
    )),
    "infinite numbers": Trap(
        net("self.lin = nn.Linear(4, 4)\nself.limit = limit", "return self.lin(x).clamp(max=self.limit)",
            arguments=", limit=float('inf')"),
    ),
    "whole numbers from 0 to 255": Trap(
        net("self.lin = nn.Linear(4, 4)", "return self.lin(x / 255)"), inputs=("1x4:uint8",)
    ),
}  # fmt: skip


def project(folder: Path, trap: Trap) -> tuple[Path, Path]:
    """Write a project and its checkpoint."""
    write_project(folder, {"net.py": HEAD + "\n\n" + trap.body, **trap.files})
    return folder / "net.py", folder / "net.pt"


def adopted(folder: Path, trap: Trap) -> dict:
    """Adopt a network; returns the report."""
    file, weights = project(folder / "project", trap)
    if not weights.exists():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["train.py", "data"])
            network = imported(file, "Net")
        arguments = trap.made_with or tuple(trap.arguments.values())
        made = network(*arguments) if trap.made_with else network(**trap.arguments)
        for example in trap.example:
            made.eval()(example)
        torch.save(trained(made).state_dict(), weights)
    name = "BertModel" if "BertModel(nn" in trap.body else "Net"
    options = AdoptOptions([parse_input(text) for text in trap.inputs], trap.arguments, embedding=trap.embedding)
    return adopt(parse_target(f"{file}:{name}"), weights, folder / "repo", options)


@pytest.mark.parametrize("name", SAME_BITS)
def test_a_trap_ends_in_the_same_bits(name, tmp_path):
    report = adopted(tmp_path, SAME_BITS[name])
    assert report["verification"]["pooler_output"]["largest_difference"] == 0
    assert report["verification"]["pooler_output"]["largest_magnitude"] > 0
    assert json.loads((tmp_path / "repo" / "conversion_report.json").read_text())["adopted"]["class"]
    assert not [note for note in report["source"]["weights"]["notes"] if note.startswith("warning")]


def test_an_embedding_that_depends_on_those_beside_it_is_said(tmp_path):
    body = net("self.norm = nn.BatchNorm1d(4, track_running_stats=False)", "return self.norm(x) if len(x) > 1 else x")
    (note,) = [note for note in adopted(tmp_path, Trap(body))["source"]["weights"]["notes"] if "beside it" in note]
    assert note.startswith("warning: an embedding changes by") and "does a BatchNorm use the statistics" in note


REFUSED = {
    "values that the constructor draws": (
        Trap(net("self.lin = nn.Linear(4, 4)\nself.noise = torch.randn(4)", "return self.lin(x) + self.noise")),
        "the repo's last_hidden_state differs from that of Net by",
    ),
    "a file that is read at the import": (
        Trap("SIZE = int(open('{folder}/size.txt').read())\n\n\n"
             + net("self.lin = nn.Linear(SIZE, 4)", "return self.lin(x)"), files={"size.txt": "4"}),
        "the repo cannot be loaded: net.py:4: the code reads the file",
    ),
    "a file that is read in forward": (
        Trap(net("self.lin = nn.Linear(4, 4)", "return self.lin(x) * int(open('{folder}/size.txt').read())"),
             files={"size.txt": "4"}),
        "the code reads the file",
    ),
    "torch.load in the constructor": (
        Trap(net("self.lin = nn.Linear(4, 4)\ntry:\n    torch.load('{folder}/other.pt')\nexcept OSError:\n    pass",
                 "return self.lin(x)"), files={"other.pt": "4"}),
        "the constructor reads the file",
    ),
    "a download in the constructor": (
        Trap(net("self.lin = nn.Linear(4, 4)\nif not self.training:\n    pass\nimport urllib.request\n"
                 "if {first}:\n    urllib.request.urlopen('http://localhost:9')", "return self.lin(x)")),
        "the constructor asks the network for something",
    ),
    "a GPU in forward": (
        Trap(net("self.lin = nn.Linear(4, 4)", "return self.lin(x.cuda())")), "it needs a GPU"
    ),
    "noise that is left on": (
        Trap(net("self.lin = nn.Linear(4, 4)", "return self.lin(x) + torch.randn(4)")),
        "Net is not deterministic: two runs of one input differ by",
    ),
    "a constructor that ends the process": (
        Trap(net("import sys\nself.lin = nn.Linear(4, 4)\nsys.exit(3)", "return self.lin(x)")),
        "Net cannot be made: ",
    ),
    "a process that dies": (
        Trap(net("import os\nself.lin = nn.Linear(4, 4)\nos._exit(3)", "return self.lin(x)")),
        "the process of the network ended with status 3",
    ),
    "a script that the class cannot do without": (
        Trap("import sys\nargs = sys.exit(1)\n\n\n" + net("self.lin = nn.Linear(4, args)", "return self.lin(x)")),
        "ends the process when it is imported",
    ),
    "an import that fails": (
        Trap("import json\nSIZE = json.loads('')\n\n\n" + net("self.lin = nn.Linear(4, SIZE)", "return self.lin(x)")),
        "cannot be imported: ",
    ),
    "a library that is not installed": (
        Trap("import own_missing_library\n\n\n"
             + net("self.lin = own_missing_library.Linear(4, 4)", "return self.lin(x)")),
        "needs own_missing_library, which is not installed",
    ),
    "a class that is a function": (Trap("def Net():\n    return nn.Linear(4, 4)\n"), "net.py:6: Net is a function"),
    "a class that is no module": (Trap("class Net:\n    pass\n"), "Net is no nn.Module"),
    "a syntax error": (Trap("class Net(nn.Module):\n    def (\n"), "net.py:7: a syntax error"),
    "an argument that is no name": (
        Trap(net("self.lin = nn.Linear(4, 4)", "return self.lin(x)", arguments=", **more"), arguments={"a-b": 1}),
        "'a-b' is no name of an argument",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_trap_ends_in_one_line(name, tmp_path):
    trap, message = REFUSED[name]
    (tmp_path / "project").mkdir()
    torch.save({"lin.weight": torch.ones(4, 4), "lin.bias": torch.ones(4)}, tmp_path / "project" / "net.pt")
    body = trap.body.replace("{folder}", str(tmp_path / "project")).replace("{first}", "True")
    with pytest.raises(AdoptError) as error:
        adopted(tmp_path, Trap(body, trap.inputs, trap.arguments, trap.embedding, trap.files))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "repo").exists()


def test_who_lacks_libraries_is_told_all_of_them(tmp_path):
    """The author has them; whoever loads the repo has not."""
    body = "import own_library_a\nimport own_library_b\n\n\n" + net("self.lin = own_library_a.make(own_library_b.SIZE)",
                                                                      "return self.lin(x)")  # fmt: skip
    libraries = write_project(tmp_path / "libraries", {
        "own_library_a.py": "from torch import nn\n\n\ndef make(size):\n    return nn.Linear(size, size)\n",
        "own_library_b.py": "SIZE = 4\n",
    })  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(libraries), os.environ.get("PYTHONPATH", "")]))
        patch.syspath_prepend(libraries)
        adopted(tmp_path, Trap(body))
    for name in ("own_library_a", "own_library_b"):
        sys.modules.pop(name, None)
    assert (tmp_path / "repo" / "requirements.txt").read_text().splitlines() == [
        "own_library_a", "own_library_b", "torch>=2.7", "transformers>=5.18,<6",
    ]  # fmt: skip
    with pytest.raises(ImportError, match="own_library_a, own_library_b"):
        AutoModel.from_pretrained(tmp_path / "repo", trust_remote_code=True)
    with pytest.raises(SystemExit) as stop:
        command_line.run(lambda: cli.command(["encode", str(tmp_path / "repo"), __file__, "--trust-remote-code"]))
    assert stop.value.code == 2
