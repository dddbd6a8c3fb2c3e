"""BatchNorm in a batch that is embedded in chunks: the same outputs in any chunks, statistics updated once."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

CHOICES = ("frozen", "update_once")
Recording = Callable[[], AbstractContextManager[Callable[[], None]]]


@contextlib.contextmanager
def frozen_batch_norm(model: nn.Module, choice: str | None) -> Iterator[Recording]:
    """Inside, BatchNorm layers in train mode normalise with their running statistics.

    Args:
        model: their model.
        choice: "frozen", or "update_once": at the end, the statistics are updated as one forward pass would do with
            all that the layers receive while they are recorded, on all ranks (which all must come to the end). None is
            for models without BatchNorm in train mode.

    Yields:
        A context in which the layers are recorded, once a chunk. It gives a function that discards this chunk.

    Raises:
        ValueError: if there is no such choice, layers are in train mode without one, or have no running statistics.
    """
    if choice not in (None, *CHOICES):
        raise ValueError(f"batch_norm is {' or '.join(map(repr, CHOICES))}, got {choice!r}")
    named = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    for name, layer in named.items():
        if layer.running_mean is None:
            raise ValueError(
                f"BatchNorm layer {name!r} has no running statistics (track_running_stats=False), so its outputs depend"
                " on the chunks; use a normalisation that does not mix rows"
            )
    training = {name: layer for name, layer in named.items() if layer.training}
    if training and choice is None:
        raise ValueError(
            f"{len(training)} BatchNorm layers are in train mode, such as {next(iter(training))!r}: in chunks they give"
            ' other gradients than for the whole batch. Choose batch_norm="frozen" to normalise with their running'
            ' statistics, or "update_once" to also update these once'
        )
    layers = list(training.values())
    sums = [_Sums(layer) for layer in layers] if choice == "update_once" else []

    @contextlib.contextmanager
    def recording() -> Iterator[Callable[[], None]]:
        before = [of.total.clone() for of in sums]

        def discard() -> None:
            for of, total in zip(sums, before, strict=True):
                of.total = total

        handles = [layer.register_forward_pre_hook(of) for layer, of in zip(layers, sums, strict=bool(sums))]
        try:
            yield discard
        finally:
            for handle in handles:
                handle.remove()

    try:
        for layer in layers:
            layer.training = False  # eval() would go through a wrapper's or a subclass's own
        yield recording
        _update(layers, sums)
    finally:
        for layer in layers:
            layer.training = True


class _Sums:
    """Of what a layer receives, by channel: how many values, their sum, the sum of their squares; as [3, C]."""

    def __init__(self, layer: _BatchNorm):
        assert layer.running_mean is not None
        # Sums of squares lose digits; MPS has no double precision.
        wide = torch.float32 if layer.running_mean.device.type == "mps" else torch.float64
        # Around the running mean, which is near: differences of large squares lose digits too.
        self.centre = layer.running_mean.to(wide)
        self.total = torch.zeros(3, len(self.centre), dtype=wide, device=self.centre.device)

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        values = inputs[0].detach().transpose(0, 1).flatten(1).to(self.total.dtype) - self.centre[:, None]
        self.total[0] += values.shape[1]
        self.total[1] += values.sum(1)
        self.total[2] += values.square().sum(1)


@torch.no_grad()
def _update(layers: list[_BatchNorm], sums: list[_Sums]) -> None:
    """Update the running statistics as a forward pass in train mode does."""
    if not sums:
        return
    if dist.is_available() and dist.is_initialized():
        together = torch.cat([of.total for of in sums], 1)
        dist.all_reduce(together)
        totals: list[Tensor] = list(together.split([of.total.shape[1] for of in sums], 1))
    else:
        totals = [of.total for of in sums]
    for layer, of, total in zip(layers, sums, totals, strict=True):
        count = total[0]
        if count[0] < 2:  # nothing came through this layer, or nothing that has a variance
            continue
        assert layer.running_mean is not None and layer.running_var is not None
        assert layer.num_batches_tracked is not None
        mean = total[1] / count
        variance = (total[2] - count * mean.square()) / (count - 1)
        layer.num_batches_tracked.add_(1)
        momentum = layer.momentum if layer.momentum is not None else 1 / float(layer.num_batches_tracked)
        layer.running_mean.lerp_((of.centre + mean).to(layer.running_mean), momentum)
        layer.running_var.lerp_(variance.to(layer.running_var), momentum)
