"""The optimizer and its schedule: a learning rate per tower, and no decay of norms, biases and temperature."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from .arguments import RunArguments


def make_optimizer(model: nn.Module, others: Iterable[nn.Parameter], run: RunArguments) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained.

    Args:
        model: a multimodal encoder.
        others: parameters outside of the model, such as the sigmoid loss's bias.
        run: learning rates and decay.
    """
    rates = {
        "text_encoder": run.text_learning_rate,
        "visual_encoder": run.vision_learning_rate,
        "depth_encoder": run.depth_learning_rate,
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    for name, parameter in [*named, *(("", parameter) for parameter in others)]:
        own = rates.get(name.partition(".")[0])
        rate = run.learning_rate if own is None else own
        # Norms, biases and scalars have fewer than two dimensions.
        decay = run.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise ValueError("nothing is trained: everything is frozen")
    settings = [
        {"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(settings, fused=True)


def step_schedule(optimizer: torch.optim.Optimizer, run: RunArguments, total_steps: int) -> LRScheduler:
    """The schedule that the options name: warm-up, then cosine, linear, or constant; it moves once per step."""
    name = "constant_with_warmup" if run.lr_schedule == "constant" else run.lr_schedule
    return get_scheduler(name, optimizer, num_warmup_steps=run.warmup_steps, num_training_steps=total_steps)
