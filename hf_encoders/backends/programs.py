"""A tower as a graph without Python, by torch.export: what a compiled backend is made from."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..models.concurrency import evaluating
from ..models.saved_processor import SavedProcessorMixin
from ..models.text_tower import TextTower
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

    While it is exported, the weights of a module are stand-ins without memory. So a copy is exported, which shares the
    memory of the weights, and other threads may use the model meanwhile. torch.export itself serves one thread.

    Returns:
        A program from the tensors of `tower.input_names` to embeddings [B, D], not normalised.
    """
    tower = for_export(tower)
    batch = tower.example()
    shapes = dynamic_shapes(tower)
    program = _Program(tower)
    tensors = tuple(batch[name] for name in tower.input_names)
    with torch.no_grad(), evaluating(program):
        return torch.export.export(program, tensors, dynamic_shapes={"tensors": (shapes,) * len(tensors)})


def for_export(tower: Tower) -> Tower:
    """A copy of a tower and its model, in float32 on the CPU, that shares the memory of the weights if they are so."""
    tower = with_shared_weights(tower)
    module: nn.Module = tower.model  # whose `to` has its types; transformers decorates its own
    module.to("cpu", torch.float32)  # which copies weights that are others, and leaves the model's alone
    return tower


def dynamic_shapes(tower: Tower) -> dict[int, Dim]:
    """Which dimensions of its inputs may have any size: batches, and the lengths of texts that are not all padded."""
    shapes = {0: Dim("batch", min=1, max=_LARGEST_SIZE)}
    if isinstance(tower, TextTower) and not tower.pads_to_limit:
        shapes[1] = Dim("length", min=2, max=tower.longest or _LARGEST_SIZE)
    return shapes


def with_shared_weights(tower: Tower) -> Tower:
    """A copy of a tower and its model; the processor and the memory of the weights are the same."""
    memo: dict[int, object] = {id(tower.processors): tower.processors}
    for module in tower.model.modules():
        if isinstance(module, SavedProcessorMixin):
            memo[id(module.saved_processor)] = module.saved_processor
        for tensor in _tensors(module):
            memo[id(tensor)] = _shared(tensor)
    return copy.deepcopy(tower, memo)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """The parameters and buffers of one module, and tensors that are mere attributes of it."""
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)
    yield from (value for value in vars(module).values() if isinstance(value, Tensor))


def _shared(tensor: Tensor) -> Tensor:
    if type(tensor) is nn.Parameter:
        return nn.Parameter(tensor.detach(), requires_grad=False)
    return tensor.detach()
