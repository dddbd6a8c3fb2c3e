"""BatchNorm in a batch that is embedded in chunks: outputs do not depend on the chunks, statistics update once."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BatchNormChoice = Literal["frozen", "update_once", "each"]
CHOICES: tuple[BatchNormChoice, ...] = ("frozen", "update_once", "each")
# A context in which layers are recorded. It gives a function that discards what it recorded.
Recording: TypeAlias = Callable[[], AbstractContextManager[Callable[[], None]]]


@contextlib.contextmanager
def frozen_batch_norm(model: nn.Module, choice: BatchNormChoice | None) -> Iterator[Recording]:
    """Let BatchNorm layers in train mode normalise with their running statistics, inside of this context.

    Args:
        model: the model with the layers.
        choice: "frozen" leaves the statistics as they are. "update_once" updates them at the end, as one forward pass
            would with all that the layers receive while they are recorded, on all ranks; every rank must come to the
            end. With "each", layers stay in train mode and normalise with the statistics of a chunk, as a rank of
            distributed training does with its part of a batch; the first chunk that is recorded updates the running
            statistics, as those of the first rank are what is kept there. None is for models without BatchNorm in
            train mode.

    Yields:
        A context in which the layers are recorded, to be used once per chunk. It gives a function that discards this
        chunk.

    Raises:
        ValueError: for an invalid choice, or if layers are in train mode without a choice or lack running statistics.
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
    if choice == "each":
        with _updated_by_the_first(layers) as recording_each:
            yield recording_each
        return
    sums = [_Sums(layer) for layer in layers] if choice == "update_once" else []

    @contextlib.contextmanager
    def recording() -> Iterator[Callable[[], None]]:
        before = [layer_sums.total.clone() for layer_sums in sums]

        def discard() -> None:
            for layer_sums, total in zip(sums, before, strict=True):
                layer_sums.total = total

        # There are no sums where the statistics are frozen.
        handles = [layer.register_forward_pre_hook(hook) for layer, hook in zip(layers, sums, strict=bool(sums))]
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


def trained_batch_norm(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers of a model that are in train mode now."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.training]


@contextlib.contextmanager
def kept_statistics(layers: Iterable[_BatchNorm]) -> Iterator[None]:
    """Let layers in train mode normalise with the statistics of what they receive, and leave the running ones alone."""
    changed = [layer for layer in layers if layer.track_running_stats]
    for layer in changed:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in changed:
            layer.track_running_stats = True


@contextlib.contextmanager
def _updated_by_the_first(layers: list[_BatchNorm]) -> Iterator[Recording]:
    waiting = list(layers)

    @contextlib.contextmanager
    def recording() -> Iterator[Callable[[], None]]:
        for layer in waiting:
            layer.track_running_stats = True
        yield lambda: None
        for layer in waiting:
            layer.track_running_stats = False
        waiting.clear()

    with kept_statistics(layers):
        yield recording


class _Sums:
    """Count, sum and sum of squares of the values that a layer receives, per channel: [3, C]."""

    def __init__(self, layer: _BatchNorm):
        assert layer.running_mean is not None
        # Sums of squares lose digits, so they are in double precision, which MPS lacks.
        wide = torch.float32 if layer.running_mean.device.type == "mps" else torch.float64
        # Values are centred by the running mean, which is near: differences of large squares lose digits too.
        self.centre = layer.running_mean.to(wide)
        self.total = torch.zeros(3, len(self.centre), dtype=wide, device=self.centre.device)

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
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
        together = torch.cat([layer_sums.total for layer_sums in sums], 1)
        dist.all_reduce(together)
        totals: list[Tensor] = list(together.split([layer_sums.total.shape[1] for layer_sums in sums], 1))
    else:
        totals = [layer_sums.total for layer_sums in sums]
    for layer, layer_sums, total in zip(layers, sums, totals, strict=True):
        count = total[0]
        if count[0] < 2:  # the layer received nothing, or nothing that has a variance
            continue
        assert layer.running_mean is not None and layer.running_var is not None
        assert layer.num_batches_tracked is not None
        mean = total[1] / count
        variance = (total[2] - count * mean.square()) / (count - 1)
        layer.num_batches_tracked.add_(1)
        momentum = layer.momentum if layer.momentum is not None else 1 / float(layer.num_batches_tracked)
        layer.running_mean.lerp_((layer_sums.centre + mean).to(layer.running_mean), momentum)
        layer.running_var.lerp_(variance.to(layer.running_var), momentum)
