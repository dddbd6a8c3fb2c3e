"""Pretrain the two small encoders in samples/foreign, each in the layout of the code that such files come from.

    python samples/foreign_encoders.py --images rooms/train.parquet objects/train.parquet --output samples/foreign

- `dino_vit_rooms.pth`: a ViT of 112 pixels trained without labels, as DINO (https://arxiv.org/abs/2104.14294) writes
  it: student and teacher, each with its head. Images are neither mirrored nor recoloured: captions name sides, colours.
- `roberta_captions.pt`: a RoBERTa trained on captions by guessing masked tokens, as fairseq writes it, and
  `roberta-tokenizer`, its byte-level BPE in the two files of transformers.

Both are written in float16. The script is plain PyTorch, and imports nothing of this package.
"""

import argparse
import copy
import io
import itertools
import math
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from PIL import Image
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from torch.nn import functional

SIDE, LOCAL_SIDE, PATCH, WIDTH, DEPTH, HEADS = 112, 64, 16, 128, 5, 2
PROTOTYPES, LOCAL_CROPS, STORED_SIDE = 1024, 4, 144
VOCABULARY, LENGTH, TEXT_DEPTH = 640, 62, 3
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


class Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values, as in timm and DINO."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        query, key, value = self.qkv(x).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """A layer of a ViT: norms come first."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn, self.mlp = Attention(), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] → [B, T, C]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Patches to tokens."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)


class VisionTransformer(nn.Module):
    """Images [B, 3, S, S] → the class token [B, C]; positions are interpolated where S is not 112."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2 + 1, WIDTH) * 0.02)
        self.patch_embed, self.blocks = PatchEmbed(), nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        tokens = self.patch_embed.proj(images)
        grid = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (SIDE // PATCH, SIDE // PATCH))
        if grid.shape[-2:] != tokens.shape[-2:]:
            grid = functional.interpolate(grid, tokens.shape[-2:], mode="bicubic", align_corners=False)
        x = (tokens + grid).flatten(2).transpose(1, 2)
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


class Head(nn.Module):
    """DINO's projection to prototypes."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 256), nn.GELU(), nn.Linear(256, 64))
        self.last_layer = nn.utils.weight_norm(nn.Linear(64, PROTOTYPES, bias=False))  # DINO's own, names included
        self.last_layer.weight_g.data.fill_(1)
        self.last_layer.weight_g.requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        """[B, C] → [B, prototypes]."""
        return self.last_layer(functional.normalize(self.mlp(x), dim=-1))


class Network(nn.Module):
    """A ViT and its head."""

    def __init__(self):
        super().__init__()
        self.backbone, self.head = VisionTransformer(), Head()

    def forward(self, images: Tensor) -> Tensor:
        """Images → prototypes."""
        return self.head(self.backbone(images))


def crops(images: Tensor, side: int, scales: tuple[float, float]) -> Tensor:
    """A random part of each image, of a share of its area within `scales`: [B, 3, S, S] → [B, 3, side, side]."""
    count = len(images)
    share = (
        torch.empty(count, 2).uniform_(*scales).sqrt()
        * torch.empty(count, 1).uniform_(0.87, 1.15).log().mul(torch.tensor([[1.0, -1.0]])).exp()
    )
    share = share.clamp(max=1)
    middle = (torch.rand(count, 2) * 2 - 1) * (1 - share)
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2] = share[:, 0], share[:, 1], middle
    grid = functional.affine_grid(matrix, [count, 3, side, side], align_corners=False)
    picture = functional.grid_sample(images, grid, align_corners=False, padding_mode="border")
    light = torch.empty(count, 1, 1, 1).uniform_(0.8, 1.2)
    return (picture * light).clamp(0, 1)


def normalized(images: Tensor) -> Tensor:
    """Values from 0 to 1 as ImageNet's mean and deviation want them."""
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    return (images - mean) / deviation


def pretrain_image_tower(images: Tensor, minutes: float, batch: int = 64) -> dict[str, object]:
    """Train by DINO; returns its checkpoint.

    Args:
        images: [N, 3, S, S], uint8.
        minutes: when it ends.
        batch: images in a step.
    """
    student, teacher = Network(), Network().requires_grad_(requires_grad=False)
    teacher.load_state_dict(student.state_dict())
    groups = [
        {"params": [p for p in student.parameters() if p.requires_grad and p.ndim > 1], "weight_decay": 0.04},
        {"params": [p for p in student.parameters() if p.requires_grad and p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    center, started, rows = torch.zeros(1, PROTOTYPES), time.monotonic(), iter(())
    for step in itertools.count():
        done = (time.monotonic() - started) / (minutes * 60)
        if done >= 1:
            break
        chosen = next(rows, None)
        if chosen is None or len(chosen) < batch:
            rows = iter(torch.randperm(len(images)).split(batch))
            chosen = next(rows)
        pictures = images[chosen].float() / 255
        wide = [normalized(crops(pictures, SIDE, (0.4, 1.0))) for _ in range(2)]
        small = [normalized(crops(pictures, LOCAL_SIDE, (0.08, 0.4))) for _ in range(LOCAL_CROPS)]
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, step / 200) * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                targets = teacher(torch.cat(wide)).float()
            views = torch.cat([student(torch.cat(wide)), student(torch.cat(small))]).float().chunk(2 + LOCAL_CROPS)
        wanted = ((targets - center) / 0.04).softmax(-1).chunk(2)
        losses = [
            -(target * (view / 0.1).log_softmax(-1)).sum(-1).mean()
            for number, target in enumerate(wanted)
            for other, view in enumerate(views)
            if other != number
        ]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        if done < 0.1:
            student.head.last_layer.weight_v.grad = None
        optimizer.step()
        with torch.no_grad():
            center = center * 0.9 + targets.mean(0, keepdim=True) * 0.1
            momentum = 1 - 0.01 * (1 + math.cos(math.pi * done)) / 2
            for mean, weight in zip(teacher.parameters(), student.parameters(), strict=True):
                mean.lerp_(weight, 1 - momentum)
        if step % 50 == 0:
            spread = functional.normalize(targets, dim=-1).mean(0).norm().item()
            print(f"step {step}, {done:.0%}: loss {loss.item():.3f}, agreement of all targets {spread:.2f}", flush=True)
    half = {name: value.half() for name, value in student.state_dict().items()}
    return {
        "student": {f"module.{name}": value for name, value in half.items()},
        "teacher": {name: value.half() for name, value in teacher.state_dict().items()},
        "epoch": step * batch // len(images),
        "args": argparse.Namespace(arch="vit_tiny", patch_size=PATCH, out_dim=PROTOTYPES, img_size=SIDE),
        "dino_loss": {"center": center},
    }


class TextNetwork(nn.Module):
    """A RoBERTa, whose layers are PyTorch's: norms come last. `fairseq_names` gives its weights fairseq's names."""

    def __init__(self, size: int):
        super().__init__()
        self.embed_tokens = nn.Embedding(size, WIDTH, padding_idx=1)
        self.embed_positions = nn.Embedding(LENGTH + 2, WIDTH, padding_idx=1)
        self.layernorm_embedding = nn.LayerNorm(WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.1, "gelu", batch_first=True)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(TEXT_DEPTH))
        self.dense, self.layer_norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.bias = nn.Parameter(torch.zeros(size))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T] → scores of each token [B, T, vocabulary]."""
        padding = tokens == 1
        positions = (~padding).cumsum(1) * ~padding + 1
        x = self.layernorm_embedding(self.embed_tokens(tokens) + self.embed_positions(positions))
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        x = self.layer_norm(functional.gelu(self.dense(x)))
        return functional.linear(x, self.embed_tokens.weight, self.bias)

    def fairseq_names(self) -> dict[str, Tensor]:
        """The weights as fairseq's `roberta_base` names them, in float16."""
        moved = {}
        renames = {"norm1": "self_attn_layer_norm", "norm2": "final_layer_norm", "linear1": "fc1", "linear2": "fc2"}
        for name, value in self.state_dict().items():
            if name.startswith(("dense", "layer_norm.", "bias")):
                moved[f"decoder.lm_head.{name}"] = value
                continue
            for old, new in renames.items():
                name = name.replace(f".{old}.", f".{new}.")  # noqa: PLW2901
            if "in_proj_" in name:
                for part, piece in zip("qkv", value.chunk(3), strict=True):
                    moved[f"decoder.sentence_encoder.{name.replace('in_proj_', f'{part}_proj.')}"] = piece.clone()
            else:
                moved[f"decoder.sentence_encoder.{name}"] = value
        moved["decoder.lm_head.weight"] = self.embed_tokens.weight.detach()
        return {name: value.half() for name, value in moved.items()}


def pretrain_text_tower(captions: list[str], folder: Path, minutes: float, batch: int = 64) -> dict[str, object]:
    """Train a tokenizer, written to `folder`, and a RoBERTa on captions; returns fairseq's checkpoint."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(captions, VOCABULARY, special_tokens=[*SPECIAL])
    tokenizer.add_special_tokens(["<mask>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_model(str(folder))
    size = tokenizer.get_vocab_size()
    mask = size - 1
    encoded = [[0, *tokenizer.encode(caption).ids, 2] for caption in captions]
    network = TextNetwork(size)
    optimizer, started = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01), time.monotonic()
    generator = np.random.default_rng(0)
    for step in itertools.count():
        done = (time.monotonic() - started) / (minutes * 60)
        if done >= 1:
            break
        rows = [encoded[row] for row in generator.integers(len(encoded), size=batch)]
        tokens = torch.ones(batch, max(map(len, rows)), dtype=torch.long)
        for number, row in enumerate(rows):
            tokens[number, : len(row)] = torch.tensor(row)
        guessed = (torch.rand(tokens.shape) < 0.25) & (tokens > 3)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, step / 100) * (1 - done)
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(tokens.masked_fill(guessed, mask))
        loss = functional.cross_entropy(scores[guessed].float(), tokens[guessed])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}, {done:.0%}: loss {loss.item():.3f}", flush=True)
    arguments = argparse.Namespace(arch="roberta_base", encoder_attention_heads=HEADS, max_positions=LENGTH)
    return {"args": arguments, "model": network.fairseq_names(), "extra_state": {"epoch": step * batch // len(encoded)}}


def read(paths: list[Path]) -> tuple[Tensor, list[str]]:
    """Images [N, 3, 144, 144] in uint8, and captions, of parquet files."""
    images, captions = [], []
    for path in paths:
        for row in pyarrow.parquet.read_table(path, columns=["image", "caption"]).to_pylist():
            picture = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
            images.append(torch.from_numpy(np.array(picture.resize((STORED_SIDE, STORED_SIDE)))).permute(2, 0, 1))
            captions.append(row["caption"])
    return torch.stack(images), captions


def main() -> None:
    """Pretrain both, and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", nargs="+", type=Path, required=True, help="parquet files with image and caption")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument("--minutes", type=float, default=30, help="of the image tower; the text tower takes a tenth")
    given = parser.parse_args()
    torch.manual_seed(0)
    images, captions = read(given.images)
    given.output.mkdir(parents=True, exist_ok=True)
    text = pretrain_text_tower(captions, given.output / "roberta-tokenizer", given.minutes / 10)
    torch.save(text, given.output / "roberta_captions.pt")
    torch.save(pretrain_image_tower(images, given.minutes), given.output / "dino_vit_rooms.pth")


if __name__ == "__main__":
    main()
