"""What loading an adopted network takes, beside building its class and `load_state_dict`.

    python benchmarks/bench_adopt.py [--quick]

A vision transformer in one file is adopted, and loaded in both ways in turn: by `AutoModel.from_pretrained` from the
repo, and by its class with `torch.load` from the checkpoint. One process, files in the page cache; each load ends when
every byte of the weights was in use (their sums are taken).
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import machine
from torch import nn
from transformers import AutoModel

from hf_encoders.adopt.adopt import AdoptOptions, adopt
from hf_encoders.adopt.code.target import Target
from hf_encoders.adopt.inputs import parse_input
from hf_encoders.progress import quiet_libraries

NET = """
import torch
from torch import nn


class Tokens(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int = 8):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 16, 16)
        self.positions = nn.Parameter(torch.zeros(1, 196, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    def forward(self, x):
        return self.layers(self.patch(x).flatten(2).transpose(1, 2) + self.positions)
"""
SIZES = {"6 layers of 384": {"dim": 384, "depth": 6}, "12 layers of 768": {"dim": 768, "depth": 12}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="3 repeats instead of 9")
    repeats = 3 if parser.parse_args().quick else 9
    quiet_libraries()
    print(f"{machine()}, {torch.get_num_threads()} threads; medians of {repeats}")
    print("\n| network | MB | class and load_state_dict | from_pretrained | ratio | goal |\n|---|---|---|---|---|---|")
    for name, arguments in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            measure(name, dict(arguments), Path(folder), repeats)


def measure(name: str, arguments: dict[str, object], folder: Path, repeats: int) -> None:
    """Adopt a network, load it in both ways in turn, and print the medians."""
    file, weights, repo = folder / "tokens.py", folder / "last.pt", folder / "repo"
    file.write_text(NET)
    make = _class_of(file)
    torch.save(make(**arguments).state_dict(), weights)
    options = AdoptOptions([parse_input("1x3x224x224")], arguments, embedding="output.mean(1)")
    adopt(Target(file, "Tokens"), weights, repo, options)

    def plain() -> nn.Module:
        network = make(**arguments)
        network.load_state_dict(torch.load(weights, weights_only=True))
        return network

    def adopted() -> nn.Module:
        model: nn.Module = AutoModel.from_pretrained(repo, trust_remote_code=True)
        return model

    rounds = [(_seconds(plain), _seconds(adopted)) for _ in range(repeats + 1)][1:]  # the first one warms up
    own, ours = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    print(f"| {name} | {weights.stat().st_size / 1e6:.0f} | {own:.3f} | {ours:.3f} | {ours / own:.2f} | 1.2 |")


def _class_of(file: Path) -> Callable[..., nn.Module]:
    spec = importlib.util.spec_from_file_location("tokens", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tokens"] = module
    spec.loader.exec_module(module)
    made: Callable[..., nn.Module] = module.Tokens
    return made


def _seconds(load: Callable[[], nn.Module]) -> float:
    start = time.perf_counter()
    for tensor in load().state_dict().values():
        tensor.sum()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
