"""Convolutions as oneDNN computes them best: BatchNorm folded in, ReLU done by them, weights in its own layout.

Which BatchNorm and which ReLU follows a convolution is seen while a batch goes through the network. The order in which
modules are declared does not tell it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def can_pack() -> bool:
    """Whether this PyTorch has oneDNN and what is asked of it, and nobody has switched it off."""
    names = "_reorder_convolution_weight", "_convolution_pointwise"
    is_there = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)
    return is_there and bool(torch.backends.mkldnn.enabled)


class PackedConv2d(nn.Module):
    """A convolution, the BatchNorm and the ReLU behind it as one operation of oneDNN.

    PyTorch brings plain weights into oneDNN's layout again for every batch. These are in it.

    Args:
        convolution: with zeros around the input.
        shape: [B, C, H, W] of the input that the layout is chosen for; others are computed too.
        norm: what follows it, if anything.
        has_relu: whether a ReLU follows.
    """

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size, norm: nn.BatchNorm2d | None, has_relu: bool):
        super().__init__()
        weight, bias = convolution.weight, convolution.bias
        if norm is not None:
            statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            weight, bias = fuse_conv_bn_weights(weight, bias, *statistics)  # type: ignore[arg-type]  # has statistics
        padding, stride, dilation = (list(sizes) for sizes in _geometry(convolution))
        self._sizes = padding, stride, dilation, convolution.groups
        self._bias = None if bias is None else bias.detach()
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight.detach(), *self._sizes, list(shape))
        self._after = "relu" if has_relu else "none"

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C, H, W] → [B, out, H', W']."""
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            inputs, self._weight, self._bias, *self._sizes, self._after, [], ""
        )
        return output


class _Chain(NamedTuple):
    """A convolution, the shape of its input, and what follows it."""

    convolution: nn.Conv2d
    shape: torch.Size
    norm: nn.BatchNorm2d | None
    relu: nn.ReLU | None


def pack_convolutions(network: nn.Module, run: Callable[[], object], batch_size: int) -> int:
    """Replace the convolutions of a network in evaluation mode, and what follows them.

    Whatever else uses the output of a convolution is not seen: compare the results.

    Args:
        network: is changed; its weights are not.
        run: puts a batch through it, without gradients but not in inference mode.
        batch_size: that layouts are chosen for.

    Returns:
        How many BatchNorms were folded.
    """
    chains = list(_chains(network, run))
    new: dict[int, nn.Module] = {}
    for convolution, seen, norm, relu in chains:
        shape = torch.Size((batch_size, *seen[1:]))
        new[id(convolution)] = PackedConv2d(convolution, shape, norm, relu is not None)
        new |= {id(folded): nn.Identity() for folded in (norm, relu) if folded is not None}
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if id(module) in new:
            network.set_submodule(name, new[id(module)])
    return sum(chain.norm is not None for chain in chains)


def _chains(network: nn.Module, run: Callable[[], object]) -> Iterator[_Chain]:
    calls: Counter[nn.Module] = Counter()
    shapes: dict[nn.Module, torch.Size] = {}
    made = _Made()
    follows: dict[nn.Module, nn.Module] = {}

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls[module] += 1
        shapes[module] = inputs[0].shape
        maker = made.maker(inputs[0])
        if maker is not None:
            follows[maker] = module

    def after(module: nn.Module, _: object, output: Tensor) -> None:
        made.note(module, output)

    with ExitStack() as hooks:
        for module in network.modules():
            if type(module) in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU) and "forward" not in vars(module):
                hooks.callback(module.register_forward_pre_hook(before).remove)
                hooks.callback(module.register_forward_hook(after).remove)
        run()
    for module in [*calls]:
        if not isinstance(module, nn.Conv2d) or calls[module] > 1 or not _is_plain(module):
            continue
        norm, relu = follows.get(module), None
        if not isinstance(norm, nn.BatchNorm2d) or calls[norm] > 1 or norm.running_mean is None:
            norm = None
        relu = follows.get(module if norm is None else norm)
        if not isinstance(relu, nn.ReLU) or calls[relu] > 1:
            relu = None
        yield _Chain(module, shapes[module], norm, relu)


class _Made:
    """Which module made a tensor that has not been changed since."""

    def __init__(self) -> None:
        self._makers: dict[int, tuple[ref[Tensor], int, nn.Module]] = {}

    def note(self, module: nn.Module, output: Tensor) -> None:
        self._makers[id(output)] = ref(output), output._version, module

    def maker(self, tensor: Tensor) -> nn.Module | None:
        made, version, module = self._makers.get(id(tensor), (None, 0, None))
        return module if made is not None and made() is tensor and version == tensor._version else None


def _is_plain(convolution: nn.Conv2d) -> bool:
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)


def _geometry(convolution: nn.Conv2d) -> Iterator[tuple[int, ...]]:
    for sizes in (convolution.padding, convolution.stride, convolution.dilation):
        assert not isinstance(sizes, str)
        yield sizes
