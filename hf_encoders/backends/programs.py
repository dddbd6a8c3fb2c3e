"""A tower as a graph without Python: what other engines are made of, by torch.export."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..models.evaluation_mode import evaluating

_MOST = 1 << 16
# Inputs of a tower, in the order of the graph's arguments.
_TEXT_INPUTS = ("input_ids", "attention_mask")
_PIXEL_INPUTS = ("pixel_values",)


class _Tower(nn.Module):
    """A method of a model that embeds a batch, as a module whose arguments are the batch's tensors."""

    def __init__(self, model: nn.Module, method: str, names: tuple[str, ...]):
        super().__init__()
        self.model, self._method, self._names = model, method, names

    def forward(self, *tensors: Tensor) -> Tensor:
        embed: Callable[[dict[str, Tensor]], Tensor] = getattr(self.model, self._method)
        return embed(dict(zip(self._names, tensors, strict=True)))


def input_names(tower: str) -> tuple[str, ...]:
    """Of "text", "image" or "depth"."""
    return _TEXT_INPUTS if tower == "text" else _PIXEL_INPUTS


def export_tower(model: Any, tower: str, method: str) -> ExportedProgram:
    """Export a tower in float32, for any batch and, for texts, any length.

    Args:
        model: the encoder.
        tower: "text", "image" or "depth".
        method: of the model: a batch as `input_names` says → embeddings [B, D], not normalised.
    """
    if model.dtype != torch.float32 or model.device.type != "cpu":
        model = copy.deepcopy(model).to("cpu", torch.float32)
    batch = example_batch(model, tower)
    shapes: dict[int, Any] = {0: Dim("batch", min=1, max=_MOST)}
    if tower == "text":
        shapes[1] = Dim("length", min=2, max=model._token_limit() or _MOST)
    module = _Tower(model, method, input_names(tower))
    with torch.no_grad(), evaluating(module):
        return torch.export.export(module, tuple(batch.values()), dynamic_shapes={"tensors": (shapes,) * len(batch)})


def example_batch(model: Any, tower: str) -> dict[str, Tensor]:
    """Two inputs, of the size that the processor makes."""
    if tower == "text":
        shape = 2, min(16, model._token_limit() or 16)
        # Tensors of their own: torch.export takes one tensor in two places for one input.
        return {name: torch.ones(shape, dtype=torch.long) for name in input_names(tower)}
    config = model.config
    if tower == "depth":
        config = getattr(config, "depth_config", config)
        processor = model.processor if config is model.config else model.depth_processor
        channels = config.num_channels
    else:
        processor, channels = model.image_processor, config.vision_config.num_channels
    size: dict[str, int] = dict(getattr(processor, "crop_size", None) or processor.size)
    side = size.get("shortest_edge", 0)
    return {"pixel_values": torch.zeros(2, channels, size.get("height", side), size.get("width", side))}
