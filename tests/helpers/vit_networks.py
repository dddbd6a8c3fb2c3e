"""Small Vision Transformers under the names of timm, Meta and torchvision, written from the papers."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel

from hf_encoders.conversion import convert as conversion
from hf_encoders.conversion.families.family import EncoderOptions

WIDTH, PATCH, CLASSES = 48, 4, 3
HEADS = EncoderOptions(attention_heads=(3,))


@dataclass
class Kind:
    """What a network has. Positions: of "all" tokens, or of "patches"."""

    grid: tuple[int, int] = (3, 3)
    patch: tuple[int, int] = (PATCH, PATCH)
    channels: int = 3
    depth: int = 3
    width: int = WIDTH
    heads: int = 3
    mlp: int = 72
    eps: float = 1e-6
    positions: str = "all"
    registers: tuple[str, int] | None = None
    distilled: bool = False
    qkv_bias: bool = True
    layer_scale: bool = False
    gated: str = ""  # "w12" of Meta, "fc1" of timm
    mask_token: bool = False
    classes: int = 0
    pooler: int = 0


class Attention(nn.Module):
    """Query, key and value in one matrix."""

    def __init__(self, kind):
        super().__init__()
        self.heads = kind.heads
        self.qkv = nn.Linear(kind.width, 3 * kind.width, bias=kind.qkv_bias)
        self.proj = nn.Linear(kind.width, kind.width)

    def forward(self, x):
        count, length, width = x.shape
        query, key, value = self.qkv(x).view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(count, length, width))


class Mlp(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(kind.width, kind.mlp), nn.Linear(kind.mlp, kind.width)
        self.act = F.gelu

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class GatedMlp(nn.Module):
    """SwiGLU: Shazeer, 2020. Both first matrices are one."""

    def __init__(self, kind):
        super().__init__()
        self.names = ("w12", "w3") if kind.gated == "w12" else ("fc1", "fc2")
        self.add_module(self.names[0], nn.Linear(kind.width, 2 * kind.mlp))
        self.add_module(self.names[1], nn.Linear(kind.mlp, kind.width))

    def forward(self, x):
        first, second = getattr(self, self.names[0])(x).chunk(2, dim=-1)
        return getattr(self, self.names[1])(F.silu(first) * second)


class LayerScale(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(kind.width))

    def forward(self, x):
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(kind.width, kind.eps) for _ in range(2))
        self.attn = Attention(kind)
        self.mlp = GatedMlp(kind) if kind.gated else Mlp(kind)
        self.ls1, self.ls2 = (LayerScale(kind) if kind.layer_scale else nn.Identity() for _ in range(2))

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.proj = nn.Conv2d(kind.channels, kind.width, kind.patch, kind.patch)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class Vit(nn.Module):
    """All that timm's VisionTransformer, DeiT and DINOv2 have."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.cls_token = nn.Parameter(torch.empty(1, 1, kind.width))
        special = 1
        if kind.distilled:
            self.dist_token, special = nn.Parameter(torch.empty(1, 1, kind.width)), 2
            self.head_dist = nn.Linear(kind.width, kind.classes) if kind.classes else nn.Identity()
        if kind.registers:
            self.register_parameter(kind.registers[0], nn.Parameter(torch.empty(1, kind.registers[1], kind.width)))
        if kind.mask_token:
            self.mask_token = nn.Parameter(torch.empty(1, kind.width))
        positions = kind.grid[0] * kind.grid[1] + (special if kind.positions == "all" else 0)
        self.pos_embed = nn.Parameter(torch.empty(1, positions, kind.width))
        self.patch_embed = PatchEmbed(kind)
        self.blocks = nn.ModuleList(Block(kind) for _ in range(kind.depth))
        self.norm = nn.LayerNorm(kind.width, kind.eps)
        if kind.pooler:
            self.pre_logits = nn.ModuleDict({"fc": nn.Linear(kind.width, kind.pooler)})
        self.head = nn.Linear(kind.pooler or kind.width, kind.classes) if kind.classes else nn.Identity()
        randomise(self)

    def tokens(self, images):
        kind, count = self.kind, len(images)
        special = [self.cls_token, *([self.dist_token] if kind.distilled else [])]
        special = torch.cat(special, dim=1).expand(count, -1, -1)
        x = self.patch_embed(images)
        if kind.positions == "all":
            x = torch.cat([special, x], dim=1) + self.pos_embed
        else:
            x = torch.cat([special, x + self.pos_embed], dim=1)
        if kind.registers:
            registers = getattr(self, kind.registers[0]).expand(count, -1, -1)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def logits(self, images):
        x = self.tokens(images)
        if self.kind.distilled:
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        return self.head(x[:, 0])


def randomise(network, seed=0):
    """Random values for everything, norms and biases too, so that exchanged tensors show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.5 if parameter.ndim < 2 else 1.5 * parameter.shape[1:].numel() ** -0.5
            parameter.copy_(scale * noise + (parameter.ndim < 2))
    return network.eval()


def vit(**changes):
    return Vit(Kind(**changes))


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def images_of(kind, count=2):
    height, width = (many * side for many, side in zip(kind.grid, kind.patch, strict=True))
    return torch.randn(count, kind.channels, height, width, generator=torch.Generator().manual_seed(1))


def converted(folder, content, options=HEADS, weights=None):
    """Save content, convert it → the repo."""
    torch.save(content, folder / "file.pth")
    return conversion.convert(folder / "file.pth", folder / "repo", encoder=options, weights=weights)


def load(repo, kind=AutoModel):
    model, loading = kind.from_pretrained(repo, output_loading_info=True, dtype=torch.float32)
    assert not loading["missing_keys"] and not loading["mismatched_keys"], loading
    return model.eval()


def close(actual, expected, relative=1e-5):
    """Whether the largest difference is small beside the largest magnitude."""
    assert actual.shape == expected.shape
    difference = (actual - expected).abs().max() / expected.abs().max()
    assert difference <= relative, f"differs by {difference:.1e}"


def gives_the_same(repo, network):
    """AutoModel gives the network's tokens, and its class token as the pooler's output → the model."""
    model, images = load(repo), images_of(network.kind)
    with torch.no_grad():
        expected, outputs = network.tokens(images), model(images)
    close(outputs.last_hidden_state, expected)
    close(outputs.pooler_output, expected[:, 0])
    return model
