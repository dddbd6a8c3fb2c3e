"""A tower as a graph without Python, by torch.export: what a compiled backend is made from."""

import copy

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..models.evaluation_mode import evaluating
from ..models.tower import Tower

_LARGEST_SIZE = 1 << 16


class _Program(nn.Module):
    """A tower as a module whose arguments are the tensors of a batch."""

    def __init__(self, tower: Tower):
        super().__init__()
        self.model = tower.model
        self._tower = tower

    def forward(self, *tensors: Tensor) -> Tensor:
        return self._tower.embed(dict(zip(self._tower.input_names, tensors, strict=True)))


def export_tower(tower: Tower) -> ExportedProgram:
    """Export a tower in float32, for any batch and, for texts, any length.

    Returns:
        A program from the tensors of `tower.input_names` to embeddings [B, D], not normalised.
    """
    model = tower.model
    if model.dtype != torch.float32 or model.device.type != "cpu":
        tower = copy.deepcopy(tower)  # with its model
        module: nn.Module = tower.model  # whose `to` has its types; transformers decorates its own
        module.to("cpu", torch.float32)
    batch = tower.example()
    shapes = {0: Dim("batch", min=1, max=_LARGEST_SIZE)}
    if tower.name == "text":
        shapes[1] = Dim("length", min=2, max=tower.limit or _LARGEST_SIZE)
    program = _Program(tower)
    tensors = tuple(batch[name] for name in tower.input_names)
    with torch.no_grad(), evaluating(program):
        return torch.export.export(program, tensors, dynamic_shapes={"tensors": (shapes,) * len(tensors)})
