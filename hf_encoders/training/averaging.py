"""Averaged weights, and BatchNorm statistics that fit them, the same on every process."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_averages(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights.

    Args:
        model: is copied.
        decay: the share that stays in each step. At first it is less, (1 + steps) / (10 + steps), as in TensorFlow's
            ExponentialMovingAverage: the random weights that a run begins with are soon forgotten.
    """

    def average(averaged: Any, current: Any, steps: Any) -> None:
        now = min(decay, float((1 + steps) / (10 + steps)))
        get_ema_multi_avg_fn(now)(averaged, current, steps)

    return AveragedModel(model, multi_avg_fn=average)


def share_batch_norm(model: nn.Module) -> None:
    """Give every process the statistics of the first: each has gathered its own."""
    for buffer in model.buffers():
        buffer.copy_(broadcast(buffer.clone()))


@torch.no_grad()
def fit_batch_norm(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:
    """Give BatchNorm layers the statistics that batches have under the model's weights.

    Averages have none of their own. As torch's `update_bn`, which takes no inputs by name and resets frozen layers
    too.

    Args:
        model: is left in train mode; layers that this leaves in evaluation mode are frozen, and stay as they are.
        batches: what the model takes; none is read if there is no such layer.
    """
    layers = [layer for layer in model.train().modules() if isinstance(layer, _BatchNorm) and layer.training]
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
