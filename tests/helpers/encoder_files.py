"""Small networks in plain PyTorch, as the papers and public code name their parts, and files with them."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel

from hf_encoders.conversion.convert import convert


def randomised(network, seed=0):
    """The network in eval mode, each of its numbers random: a tensor in a wrong place shows."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator) * 0.1
            # Variances are positive; scales are near one.
            near_one = name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight"))
            tensor.copy_(values.abs() + 0.5 if near_one else values)
    return network.eval()


class Block(nn.Module):
    """A residual block: basic (two 3x3) or bottleneck (1x1, 3x3, 1x1); `first` has the stride on the first 1x1."""

    def __init__(self, before, size, stride, bottleneck, first=False):
        super().__init__()
        middle = size // 4 if bottleneck else size
        self.last = 3 if bottleneck else 2
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        strides = {3: (stride, 1, 1) if first else (1, stride, 1), 2: (stride, 1)}[self.last]
        sizes = [before, *[middle] * (self.last - 1), size]
        for number in range(self.last):
            kernel, its_stride = kernels[number], strides[number]
            conv = nn.Conv2d(sizes[number], sizes[number + 1], kernel, its_stride, kernel // 2, bias=False)
            setattr(self, f"conv{number + 1}", conv)
            setattr(self, f"bn{number + 1}", nn.BatchNorm2d(sizes[number + 1]))
        if stride != 1 or before != size:
            self.downsample = nn.Sequential(nn.Conv2d(before, size, 1, stride, bias=False), nn.BatchNorm2d(size))

    def forward(self, x):
        y = x
        for number in range(1, self.last + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = F.relu(y) if number < self.last else y
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
    """A ResNet with torchvision's names, for images of any size."""

    def __init__(self, depths=(1, 2, 1, 1), width=8, bottleneck=False, channels=3, classes=None, first=False):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        before = width
        for stage, depth in enumerate(depths):
            size = width * 2**stage * (4 if bottleneck else 1)
            blocks = []
            for number in range(depth):
                stride = 2 if stage and not number else 1
                blocks.append(Block(before, size, stride, bottleneck, first))
                before = size
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        if classes:
            self.fc = nn.Linear(before, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name, child in self.named_children():
            x = child(x) if name.startswith("layer") else x
        return x


def loaded(path, output, **options):
    """The repo of a file, as AutoModel loads it. Nothing in it is made at random."""
    convert(path, output, **options)
    model, loading = AutoModel.from_pretrained(output, dtype=torch.float32, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["mismatched_keys"]
    return model.eval()


def difference(ours, theirs):
    """The largest difference, relative to the largest number."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
