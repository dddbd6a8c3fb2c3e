"""The legacy depth network as plain function calls over the tensors of its state dict.

This is the independent path of the verification. It was written from the facts of the legacy network, uses
torch.nn.functional alone, and shares no module with the models. Tensors are looked up by their legacy names. They may
be mapped from a file and in half precision: each is converted to the precision of the maps, float32 or float64, only
while it is used.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

_EPS = 1e-5  # in every BatchNorm


class LegacyTensors:
    """The tensors below one prefix of a state dict, in one precision, and the layers that use them."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str = "", dtype: torch.dtype = torch.float32):
        self.tensors = tensors
        self.prefix = prefix
        self.dtype = dtype

    def __getitem__(self, name: object) -> "LegacyTensors":
        return LegacyTensors(self.tensors, f"{self.prefix}{name}.", self.dtype)

    def __contains__(self, name: str) -> bool:
        return f"{self.prefix}{name}" in self.tensors

    def get(self, name: str) -> Tensor:
        """The tensor with this name."""
        return self.tensors[f"{self.prefix}{name}"].to(self.dtype)

    def bias(self) -> Tensor | None:
        """The bias, where there is one."""
        return self.get("bias") if "bias" in self else None

    def conv(self, x: Tensor, name: object, stride: int = 1) -> Tensor:
        """A convolution padded to keep the size at stride 1."""
        layer = self[name]
        weight = layer.get("weight")
        return F.conv2d(x, weight, layer.bias(), stride, padding=weight.shape[-1] // 2)

    def up(self, x: Tensor, name: object) -> Tensor:
        """A transposed convolution 2x2 with stride 2."""
        return F.conv_transpose2d(x, self[name].get("weight"), self[name].bias(), stride=2)

    def norm(self, x: Tensor, name: object) -> Tensor:
        """BatchNorm with the running statistics."""
        n = self[name]
        return F.batch_norm(x, n.get("running_mean"), n.get("running_var"), n.get("weight"), n.get("bias"), eps=_EPS)

    def linear(self, x: Tensor, name: object) -> Tensor:
        """A linear layer."""
        return F.linear(x, self[name].get("weight"), self[name].bias())


def encode(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Maps [B, C, H, W] → embeddings [B, D]; the tensors' names begin with `encoder.`."""
    p = LegacyTensors(tensors, "encoder.", x.dtype)
    x = _conv_norm_relu(p["stem"], x, 0, 1)
    x = F.relu(p["stem"].norm(p["stem"].conv(x, 3, stride=2), 4))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for number in (1, 2, 3, 4):
        x = _layer(p[f"layer{number}"], x, stride=1 if number == 1 else 2)
        if number < 4:
            x = _gate(p[f"attention{number}"], x)
    squeezed = F.relu(p["se_block"]["fc"].linear(x.mean((2, 3)), 0))
    x = x * torch.sigmoid(p["se_block"]["fc"].linear(squeezed, 2))[:, :, None, None]
    enhanced = _conv_norm_relu(p["depth_enhance"], _conv_norm_relu(p["depth_enhance"], x, 0, 1), 3, 4)
    fused = _conv_norm_relu(p["multiscale_fusion"], enhanced, 0, 1)
    # The side of the pooled grid follows from the width of the first linear layer (2 in every known file).
    features = p["fc"]["0"].get("weight").shape[1]
    grid = round(((features - x.shape[1]) / (x.shape[1] + fused.shape[1])) ** 0.5)
    pooled = [F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, grid), F.adaptive_avg_pool2d(fused, grid)]
    x = torch.cat([part.flatten(1) for part in pooled], dim=1)
    x = F.relu(p["fc"].linear(x, 0))
    x = F.relu(p["fc"].linear(x, 3))
    return p["fc"].linear(x, 6)


def decode(tensors: Mapping[str, Tensor], embedding: Tensor) -> Tensor:
    """Embeddings [B, D] → reconstructions [B, C, S, S]; the tensors' names begin with `decoder.`."""
    p = LegacyTensors(tensors, "decoder.", embedding.dtype)
    grids = []
    for name in ("global_fc", "spatial_fc"):
        hidden = F.relu(p[name].linear(embedding, 0))
        grids.append(p[name].linear(hidden, 3).reshape(len(embedding), -1, 2, 2))
    x = torch.cat(grids, dim=1)
    x = _conv_norm_relu(p["spatial_fusion"], x, 0, 1)
    x = _conv_norm_relu(p["spatial_fusion"], x, 3, 4)
    x = _gate(p["spatial_fusion"]["6"], x)
    x = F.relu(p["spatial_upsample"].norm(p["spatial_upsample"].up(x, 0), 1))
    x = _conv_norm_relu(p["initial_conv"], x, 0, 1)
    x = _gate(p["initial_conv"]["3"], x)
    number = 0
    while f"decoder_blocks.{number}.upsample.0.weight" in p:
        x = _decoder_block(p["decoder_blocks"][number], x)
        number += 1
    last = p["final_conv"]
    x = F.relu(last.conv(x, 0))
    x = F.relu(last.conv(x, 2))
    x = _gate(last["4"], x)
    x = F.relu(last.conv(x, 5))
    x = F.relu(last.conv(x, 7))
    return torch.tanh(last.conv(x, 9))


def _conv_norm_relu(p: LegacyTensors, x: Tensor, conv: object, norm: object, stride: int = 1) -> Tensor:
    return F.relu(p.norm(p.conv(x, conv, stride), norm))


def _layer(p: LegacyTensors, x: Tensor, stride: int) -> Tensor:
    block = 0
    while f"{block}.conv1.weight" in p:
        x = _bottleneck(p[block], x, stride if block == 0 else 1)
        block += 1
    return x


def _bottleneck(p: LegacyTensors, x: Tensor, stride: int) -> Tensor:
    shortcut = x
    if "downsample.0.weight" in p:
        shortcut = p.norm(p.conv(x, "downsample.0", stride), "downsample.1")
    x = _conv_norm_relu(p, x, "conv1", "bn1")
    x = _conv_norm_relu(p, x, "conv2", "bn2", stride)
    return F.relu(p.norm(p.conv(x, "conv3"), "bn3") + shortcut)


def _gate(p: LegacyTensors, x: Tensor) -> Tensor:
    spatial = torch.sigmoid(p.conv(_conv_norm_relu(p, x, "spatial_conv.0", "spatial_conv.1"), "spatial_conv.3"))
    channel = F.relu(p.conv(x.mean((2, 3), keepdim=True), "channel_attention.1"))
    channel = torch.sigmoid(p.conv(channel, "channel_attention.3"))
    gamma = p.get("gamma")
    return gamma * x * (spatial * channel) + (1 - gamma) * x


def _decoder_block(p: LegacyTensors, x: Tensor) -> Tensor:
    x = F.relu(p.norm(p.up(x, "upsample.0"), "upsample.1"))
    for conv in (0, 3, 6):
        x = _conv_norm_relu(p["conv_block"], x, conv, conv + 1)
    if "attention.gamma" in p:
        x = _gate(p["attention"], x)
    squeezed = F.relu(p["se"]["fc"].linear(x.mean((2, 3)), 0))
    scale = torch.sigmoid(p["se"]["fc"].linear(squeezed, 2))[:, :, None, None]
    return x * (1 + p["se"].get("alpha") * (scale - 1))
