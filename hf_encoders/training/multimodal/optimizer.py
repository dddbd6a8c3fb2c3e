"""The optimizer and its schedule: a learning rate per tower, and no decay of norms, biases and temperature."""

from collections.abc import Iterable
from typing import TypedDict

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from .arguments import RunArguments


class Group(TypedDict):
    """Parameters that share a learning rate and a decay."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float


def parameter_groups(model: nn.Module, others: Iterable[nn.Parameter], run: RunArguments) -> list[Group]:
    """The parameters that are trained, by learning rate and decay.

    Args:
        model: a multimodal encoder.
        others: parameters outside of the model, such as the sigmoid loss's bias.
        run: learning rates and decay.

    Raises:
        ValueError: if there is none.
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
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]


def make_optimizer(model: nn.Module, others: Iterable[nn.Parameter], run: RunArguments) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained, see `parameter_groups`."""
    return torch.optim.AdamW([dict(group) for group in parameter_groups(model, others, run)], fused=True)


def step_schedule(optimizer: torch.optim.Optimizer, run: RunArguments, total_steps: int, finished: int = 0) -> LambdaLR:
    """The schedule that the options name: warm-up, then cosine, linear, or constant; it moves once per step.

    Args:
        optimizer: its learning rates are the peaks; where steps are finished, its groups have them as `initial_lr`.
        run: the options.
        total_steps: of the run.
        finished: steps that the run has taken.
    """
    last = finished - 1
    if run.lr_schedule == "constant":
        return get_constant_schedule_with_warmup(optimizer, run.warmup_steps, last)
    if run.lr_schedule == "linear":
        return get_linear_schedule_with_warmup(optimizer, run.warmup_steps, total_steps, last)
    return get_cosine_schedule_with_warmup(optimizer, run.warmup_steps, total_steps, last_epoch=last)


def reset_rates(
    optimizer: torch.optim.Optimizer, groups: list[Group], run: RunArguments, total_steps: int, finished: int
) -> LambdaLR | None:
    """Give an optimizer that a checkpoint was loaded into the learning rates and the decay of the options.

    Its moments stay, as they belong to the parameters.

    Args:
        optimizer: it is changed in place.
        groups: the parameters with the rates of the options.
        run: the options.
        total_steps: of the run.
        finished: steps that the run has taken.

    Returns:
        The schedule from here on; None if the checkpoint has these rates already, and nothing was changed.
    """
    bases = [group["lr"] for group in groups]
    rates = _rates_after(bases, run, total_steps, finished)
    wanted = [
        (group["params"], base, rate, group["weight_decay"])
        for group, base, rate in zip(groups, bases, rates, strict=True)
    ]
    present = [
        (group["params"], group["initial_lr"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups
    ]
    if [_by_identity(*group) for group in wanted] == [_by_identity(*group) for group in present]:
        return None
    template = optimizer.param_groups[0]
    optimizer.param_groups[:] = [{**template, **group, "initial_lr": group["lr"]} for group in groups]
    return step_schedule(optimizer, run, total_steps, finished)


def _rates_after(bases: list[float], run: RunArguments, total_steps: int, finished: int) -> list[float]:
    """The learning rates of the next step."""
    settings = [{"params": [torch.zeros(1)], "lr": base, "initial_lr": base} for base in bases]
    return [float(rate) for rate in step_schedule(torch.optim.SGD(settings), run, total_steps, finished).get_last_lr()]


def _by_identity(parameters: list[nn.Parameter], *rates: float) -> tuple[object, ...]:
    """A group as a value that can be compared: tensors compare by their values otherwise."""
    return [id(parameter) for parameter in parameters], *rates
