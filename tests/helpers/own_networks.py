"""Networks in the style of research code, as files of a project, with the weights that a training would leave."""

import importlib.util
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

CNN = '''
"""A CNN that is built from one object of settings."""

import argparse

import torch
from torch import nn

from utils import conv_block


class Encoder(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        widths = [3] + [cfg.stem] + list(cfg.model.widths)
        self.blocks = nn.Sequential(*[conv_block(a, b, cfg["model"]["stride"]) for a, b in zip(widths, widths[1:])])
        self.drop = nn.Dropout(cfg.get("dropout", 0.5))
        self.register_buffer("scale", torch.linspace(0.5, 1.5, widths[-1]), persistent=False)

    def forward(self, x):
        maps = self.drop(self.blocks(x))
        return {"maps": maps, "vector": maps.mean(dim=(2, 3)) * self.scale}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    print(Encoder(parser.parse_args()))
'''
CNN_UTILS = """
import matplotlib_is_not_here
from torch import nn


def conv_block(a, b, stride):
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.ReLU())


def plot(values):
    matplotlib_is_not_here.plot(values)
"""
VIT = """
import math

import torch
from torch import nn

from .attention import Attention
from . import config as defaults


def table(length, dim):
    steps = torch.arange(length)[:, None] * torch.exp(torch.arange(0, dim, 2) * (-math.log(1e4) / dim))
    return torch.cat([steps.sin(), steps.cos()], 1)


class Block(nn.Module):
    def __init__(self, dim, heads, rate):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(rate), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, dim: int, depth: int = 2, heads: int = 2, patch: int = defaults.PATCH, size=32, drop_rate=0.1):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = table((size // patch) ** 2 + 1, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, r.item()) for r in torch.linspace(0, drop_rate, depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.positions
        stages = []
        for block in self.blocks:
            x = block(x)
            stages.append(x)
        return self.norm(x), stages
"""
VIT_ATTENTION = """
import torch
from torch import nn


@torch.jit.script
def scaled(x, scale: float):
    return x * scale


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (scaled(q, (d // self.heads) ** -0.5) @ k.transpose(-1, -2)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, d))
"""
AUDIO = '''
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import weight_norm


class WaveEncoder(nn.Module):
    """Waves [B, T] to frames, by layers whose widths are `*widths`."""

    def __init__(self, kernel, *widths, window=True, **unused):
        super().__init__()
        self.layers = nn.ModuleList(weight_norm(nn.Conv1d(a, b, kernel, 2)) for a, b in zip((1, *widths), widths))
        self.register_buffer("window", torch.hann_window(kernel))
        self.rnn = nn.GRU(widths[-1], 6, batch_first=True)
        self.again = nn.Linear(6, 6, bias=False)
        self.last = nn.Linear(6, 6)
        self.last.weight = self.again.weight

    def forward(self, wave):
        x = F.conv1d(wave[:, None], self.window[None, None])
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
        frames, _ = self.rnn(x.transpose(1, 2))
        return self.last(self.again(frames))
'''
CHARACTERS = """
import torch
from torch import nn


class CharNet(nn.Module):
    def __init__(self, vocab_size, hidden_size=12, max_len=24):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, hidden_size, padding_idx=0)
        self.pos = nn.Parameter(torch.zeros(max_len, hidden_size))
        self.layer = nn.TransformerEncoderLayer(hidden_size, 2, 24, batch_first=True, dropout=0.1)
        self.out = nn.Linear(hidden_size, 10)

    def forward(self, tokens, mask=None):
        x = self.embed(tokens) + self.pos[: tokens.shape[1]]
        x = self.layer(x, src_key_padding_mask=None if mask is None else mask == 0)
        return self.out(x)
"""
LIT = """
import lightning_is_not_here as L
import torch
from torch import nn


class Backbone(nn.Module):
    def __init__(self, width, depth=1):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(depth))

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x).relu()
        return x.mean((2, 3))


class Lit(L.LightningModule):
    def __init__(self, width, depth=2, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = Backbone(width, depth=depth)
        self.head = nn.Linear(width, 5)

    def training_step(self, batch, _):
        return torch.zeros(())
"""

TRICKY = """
import torch
from torch import nn
from torch.nn.utils import weight_norm

from tower import Norm


class Tricky(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.patch = weight_norm(nn.Conv2d(3, dim, 8, 8))
        self.LayerNorm = Norm(dim)
        self.one = nn.Linear(dim, dim, bias=False)
        self.two = nn.Linear(dim, dim)
        self.two.weight = self.one.weight
        self.turn = nn.Parameter(torch.ones(dim, dtype=torch.complex64) * (1 + 2j))
        self.register_buffer("scale", torch.linspace(0.5, 1.5, dim), persistent=False)
        self.register_buffer("shift", torch.linspace(-1, 1, dim))
        self.steps = torch.arange(dim) / 10

    def forward(self, x):
        x = self.LayerNorm(self.patch(x).flatten(2).transpose(1, 2))
        x = self.two(self.one(x).tanh()) * self.scale + self.shift + self.steps
        return x, (x * self.turn).abs().amax(1)[:, :5]
"""
TRICKY_NORM = """
import torch
from torch import nn


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-3) * self.gamma + self.beta
"""


def write_project(folder: Path, files: dict[str, str]) -> Path:
    """Write files of a project; returns its folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def built(text: str, name: str, *arguments: object, **named: object) -> nn.Module:
    """A network of a file that imports torch alone, with weights and statistics that are not those it began with."""
    spec = importlib.util.spec_from_loader("_own_network", None)
    module = importlib.util.module_from_spec(spec)
    sys.modules["_own_network"] = module
    exec(text, module.__dict__)  # noqa: S102 - a text of these tests
    return trained(getattr(module, name)(*arguments, **named))


def imported(file: Path, name: str) -> type[nn.Module]:
    """A class of a file, imported with its project beside it; the modules are forgotten again."""
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location("_own_file", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["_own_file"] = module
    with patch.object(sys, "path", [str(file.parent), *sys.path]):
        spec.loader.exec_module(module)
    for one in set(sys.modules) - before - {"_own_file"}:
        path = getattr(sys.modules[one], "__file__", None)
        if path and Path(path).is_relative_to(file.parent):
            del sys.modules[one]
    return getattr(module, name)


def trained(network: nn.Module) -> nn.Module:
    """The network with other weights and statistics."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point() and tensor.numel():
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
    return network
