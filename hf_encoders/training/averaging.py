"""Averaged weights, and BatchNorm statistics that fit them, equal on all processes."""

from collections.abc import Iterable, Mapping

import torch
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..losses.batch_norm import trained_batch_norm
from ..models.input_errors import reason

Tensors = tuple[Tensor, ...] | list[Tensor]


def make_averages(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights.

    Args:
        model: is copied.
        decay: the share of the average that each step keeps. At first it is (1 + steps) / (10 + steps), as in
            TensorFlow's ExponentialMovingAverage, so that the random weights of the beginning are soon forgotten.

    Raises:
        ValueError: if PyTorch cannot copy the model, as with the older weight normalisation in somebody's own network.
    """

    def average(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
        now = min(decay, float((1 + steps) / (10 + steps)))
        get_ema_multi_avg_fn(now)(averaged, current, steps)

    try:
        return AveragedModel(model, multi_avg_fn=average)
    except RuntimeError as error:
        raise ValueError(f"--ema_decay: the model cannot be copied ({reason(error)}); leave it out") from error


def share_batch_norm(model: nn.Module) -> None:
    """Give every process the statistics of the first; until now each has gathered its own."""
    for buffer in model.buffers():
        buffer.copy_(broadcast(buffer.clone()))


@torch.no_grad()
def fit_batch_norm(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:
    """Give BatchNorm layers the statistics of batches under the model's weights: averaged weights have none.

    Torch's `update_bn` does the same, but takes no inputs by name and resets frozen layers too.

    Args:
        model: is left in train mode. Layers that stay in evaluation mode then are frozen, and keep their statistics.
        batches: the model's inputs by name; none is read if there is no BatchNorm layer.
    """
    layers = trained_batch_norm(model.train())
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
    for batch in batches:
        model(**batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
