"""A small Swin Transformer, written from the paper: attention over the whole grid, that hides other windows' pixels.

Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, 2021. No grid is rolled or cut into
windows, so that it shares nothing with other implementations but the names of its tensors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH, WINDOW = 2, 3


class Attention(nn.Module):
    """Attention of pixels [B, H, W, C] to those of their window."""

    def __init__(self, width: int, heads: int, shifted: bool, bias: bool, window: int):
        super().__init__()
        self.heads, self.shifted, self.window = heads, shifted, window
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def forward(self, x: Tensor) -> Tensor:
        batch, side, _, width = x.shape
        shift = self.window // 2 if self.shifted and side > self.window else 0
        rows, columns = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
        window = (rows - shift).div(self.window, rounding_mode="floor") * side
        window = window + (columns - shift).div(self.window, rounding_mode="floor")
        together = window[:, None] == window
        down, right = rows[:, None] - rows + self.window - 1, columns[:, None] - columns + self.window - 1
        index = torch.where(together, down * (2 * self.window - 1) + right, 0)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1).masked_fill(~together, -torch.inf)
        query, key, value = self.qkv(x).reshape(batch, side * side, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value, bias.expand(batch, -1, -1, -1))
        return self.proj(y.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """A block; `shifted` windows begin half a window earlier."""

    def __init__(self, width: int, heads: int, shifted: bool, bias: bool, window: int, ratio: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, shifted, bias, window)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, int(ratio * width)), "fc2": nn.Linear(int(ratio * width), width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Merging(nn.Module):
    """Four neighbours [B, H, W, C] → one [B, H / 2, W / 2, 2 C]."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class Layer(nn.Module):
    """A stage, and the merging before it (timm) or after it (Microsoft)."""

    def __init__(self, blocks: list[Block], merging: Merging | None, first: bool):
        super().__init__()
        self.blocks, self.first = nn.ModuleList(blocks), first
        if merging:
            self.downsample = merging

    def forward(self, x: Tensor) -> Tensor:
        merging = getattr(self, "downsample", nn.Identity())
        x = merging(x) if self.first else x
        for block in self.blocks:
            x = block(x)
        return x if self.first else merging(x)


class Swin(nn.Module):
    """The network, with the names of Microsoft's code, or of timm's from 0.9 on."""

    def __init__(
        self,
        timm: bool = False,
        labels: int = 5,
        width: int = 8,
        depths: tuple[int, ...] = (2, 3),
        heads: tuple[int, ...] = (2, 4),
        bias: bool = True,
        positions: int = 0,
        window: int = WINDOW,
        ratio: float = 2.0,
    ):
        super().__init__()
        self.timm = timm
        projection = nn.Conv2d(3, width, PATCH, PATCH)
        self.patch_embed = nn.ModuleDict({"proj": projection, "norm": nn.LayerNorm(width)})
        if positions:
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, positions**2, width))
        layers = []
        for stage, depth in enumerate(depths):
            size = width * 2**stage
            blocks = [Block(size, heads[stage], number % 2 == 1, bias, window, ratio) for number in range(depth)]
            has_merging = stage > 0 if timm else stage + 1 < len(depths)
            merging = Merging(size // 2 if timm else size) if has_merging else None
            layers.append(Layer(blocks, merging, timm))
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(size)
        self.head = nn.ModuleDict({"fc": nn.Linear(size, labels)}) if timm else nn.Linear(size, labels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, H] → outputs by the names of transformers."""
        x = self.patch_embed["norm"](self.patch_embed["proj"](images).permute(0, 2, 3, 1))
        if hasattr(self, "absolute_pos_embed"):
            x = x + self.absolute_pos_embed.reshape(1, *x.shape[1:])
        for layer in self.layers:
            x = layer(x)
        hidden = self.norm(x).flatten(1, 2)
        pooled = hidden.mean(1)
        head = self.head["fc"] if self.timm else self.head
        return {"last_hidden_state": hidden, "pooler_output": pooled, "logits": head(pooled)}


def with_buffers(state_dict: dict[str, Tensor], side: int, window: int = WINDOW) -> dict[str, Tensor]:
    """A state dict with the buffers of Microsoft's code for images of so many pixels, entry by entry."""
    result = dict(state_dict)
    pixels = [(row, column) for row in range(window) for column in range(window)]
    for name in state_dict:
        if not name.endswith(".attn.relative_position_bias_table"):
            continue
        block = name.removesuffix(".attn.relative_position_bias_table")
        rows = [[(a - c + window - 1) * (2 * window - 1) + b - d + window - 1 for c, d in pixels] for a, b in pixels]
        result[f"{block}.attn.relative_position_index"] = torch.tensor(rows)
        _, stage, _, number = block.split(".")
        grid = side // PATCH // 2 ** int(stage)
        if int(number) % 2 and grid > window:
            result[f"{block}.attn_mask"] = _mask(grid, window)
    return result


def _mask(grid: int, window: int) -> Tensor:
    """Which pixels are neighbours, and which come from another end of a grid that was rolled by half a window."""
    shift = window // 2
    masks = []
    for top in range(0, grid, window):
        for left in range(0, grid, window):
            # A pixel's place before the grid was rolled; what came from the other end is far from the others.
            places = [
                ((top + row + shift) // grid, (left + column + shift) // grid)
                for row in range(window)
                for column in range(window)
            ]
            masks.append([[0.0 if one == other else -100.0 for other in places] for one in places])
    return torch.tensor(masks)


def torchvision_names(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with Microsoft's names as torchvision has it, where the index of a window is flat."""
    result = {}
    for name, tensor in state_dict.items():
        first, *rest = name.split(".")
        if first == "patch_embed":
            name = f"features.0.{0 if rest[0] == 'proj' else 2}.{rest[1]}"
        elif first == "layers" and rest[1] == "downsample":
            name = ".".join(["features", str(2 * int(rest[0]) + 2), *rest[2:]])
        elif first == "layers":
            name = ".".join(["features", str(2 * int(rest[0]) + 1), *rest[2:]])
            name = name.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
        if not name.endswith("attn_mask"):
            result[name] = tensor.flatten() if name.endswith("relative_position_index") else tensor
    return result
