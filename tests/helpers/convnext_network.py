"""A small ConvNeXt of either generation, written from the papers, with the names of their code and those of timm.

Liu et al., A ConvNet for the 2020s, 2022; Woo et al., ConvNeXt V2, 2023. Everything stays [B, C, H, W].
"""

import torch
from torch import Tensor, nn

_EPS = 1e-6


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of images, by its formula."""

    def __init__(self, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        normal = (x - mean) / (variance + _EPS).sqrt()
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class ResponseNorm(nn.Module):
    """Global response normalisation; its parameters are [1, 1, 1, C]."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.zeros(1, 1, 1, width)), nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        energy = torch.stack([channel.flatten(1).norm(dim=1) for channel in x.unbind(1)], dim=1)
        relative = energy / (energy.mean(1, keepdim=True) + _EPS)
        gamma, beta = self.gamma.reshape(-1, 1, 1), self.beta.reshape(-1, 1, 1)
        return x + gamma * x * relative[:, :, None, None] + beta


class Block(nn.Module):
    """A block of the first generation, with or without its layer scale, or of the second."""

    def __init__(self, width: int, activation: nn.Module, layer_scale: bool, second: bool):
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), ChannelNorm(width)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.activation = activation
        if second:
            self.grn = ResponseNorm(4 * width)
        elif layer_scale:
            self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x))
        y = self.activation(self.pwconv1(y.movedim(1, -1)).movedim(-1, 1))
        y = self.grn(y) if hasattr(self, "grn") else y
        y = self.pwconv2(y.movedim(1, -1)).movedim(-1, 1)
        return x + (y * self.gamma[:, None, None] if hasattr(self, "gamma") else y)


class ConvNext(nn.Module):
    """The network, with the names of the papers' code."""

    def __init__(
        self,
        depths: tuple[int, ...] = (1, 2),
        widths: tuple[int, ...] = (6, 12),
        patch: int = 4,
        labels: int = 5,
        activation: nn.Module | None = None,
        layer_scale: bool = True,
        second: bool = False,
    ):
        super().__init__()
        activation = activation or nn.GELU()
        self.downsample_layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3, widths[0], patch, patch), ChannelNorm(widths[0]))]
        )
        for before, width in zip(widths, widths[1:], strict=False):
            self.downsample_layers.append(nn.Sequential(ChannelNorm(before), nn.Conv2d(before, width, 2, 2)))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, activation, layer_scale, second) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        self.norm, self.head = ChannelNorm(widths[-1]), nn.Linear(widths[-1], labels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images [B, 3, H, W] → outputs by the names of transformers."""
        x = images
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        pooled = self.norm(x.mean((2, 3), keepdim=True)).flatten(1)
        return {"last_hidden_state": x, "pooler_output": pooled, "logits": self.head(pooled)}


def timm_names(state_dict: dict[str, Tensor], conv_mlp: bool = False) -> dict[str, Tensor]:
    """A state dict as timm has it, with linear layers or with convolutions of one pixel in the blocks."""
    result = {}
    for name, tensor in state_dict.items():
        first, *rest = name.split(".")
        if first == "downsample_layers":
            stage, *rest = rest
            name = ".".join(["stem", *rest] if stage == "0" else ["stages", stage, "downsample", *rest])
        elif first == "stages":
            stage, block, *rest = rest
            inner = ".".join(rest).replace("dwconv", "conv_dw").replace("pwconv", "mlp.fc")
            inner = inner.replace("grn.gamma", "mlp.grn.weight").replace("grn.beta", "mlp.grn.bias")
            name = f"stages.{stage}.blocks.{block}.{inner}"
        else:
            name = f"head.{'norm' if first == 'norm' else 'fc'}.{rest[0]}"
        tensor = tensor.flatten() if ".grn." in name else tensor
        is_pointwise = conv_mlp and name.endswith(("fc1.weight", "fc2.weight"))
        result[name] = tensor[:, :, None, None] if is_pointwise else tensor
    return result


def torchvision_names(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the first generation as torchvision has it."""
    blocks = {
        "dwconv": "block.0",
        "norm": "block.2",
        "pwconv1": "block.3",
        "pwconv2": "block.5",
        "gamma": "layer_scale",
    }
    result = {}
    for name, tensor in state_dict.items():
        first, *rest = name.split(".")
        if first == "downsample_layers":
            name = ".".join(["features", str(2 * int(rest[0])), *rest[1:]])
        elif first == "stages":
            name = ".".join(["features", str(2 * int(rest[0]) + 1), rest[1], blocks[rest[2]], *rest[3:]])
        else:
            name = f"classifier.{0 if first == 'norm' else 2}.{rest[0]}"
        result[name] = tensor[:, None, None] if name.endswith("layer_scale") else tensor
    return result
