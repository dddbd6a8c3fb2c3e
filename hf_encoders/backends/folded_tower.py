"""PyTorch's own backend for convolutional towers on a CPU: a copy of the network, made for inference alone."""

import logging as levels
from collections.abc import Iterator, Mapping
from contextlib import suppress

import torch
from torch import Tensor, nn
from transformers.utils import logging

from ..models.backend import TorchBackend
from ..models.input_batches import Batch
from ..models.tower import Tower
from .exported_files import random_batch
from .packed_convolutions import can_pack, pack_convolutions
from .programs import with_shared_weights

logger = logging.get_logger(__name__)

# The copy may differ by so much of the largest number in the embeddings of a test; 1e-6 is usual.
_TOLERANCE = 1e-4
_COMPARED = 2  # inputs
_USUAL_BATCH = 32
_CPU = torch.device("cpu")


class FoldedTower:
    """Embeds batches by a copy of a network, see `fold`.

    Args:
        network: the copy.
        tower: of the copy.
        parameters: how many the network has.
    """

    def __init__(self, tower: Tower, parameters: int):
        self._tower, self._parameters = tower, parameters
        self.max_batch = self._backend().max_batch

    def embed(self, batches: Iterator[Batch]) -> Iterator[tuple[list[int], Tensor]]:
        """See `Backend`."""
        return self._backend().embed(batches)

    def _backend(self) -> TorchBackend:  # one a call: it remembers which batches fit
        return TorchBackend(self.embed_batch, _CPU, self._parameters)

    def embed_batch(self, batch: Mapping[str, Tensor]) -> Tensor:
        """A prepared batch → [B, D]."""
        return self._tower.embed({name: _channels_last(tensor) for name, tensor in batch.items()})


class LeftAsItIs:
    """Stands for a tower that is not folded."""

    max_batch: int | None = None

    def embed(self, batches: Iterator[Batch]) -> Iterator[tuple[list[int], Tensor]]:
        """Not called."""
        raise AssertionError("a tower that is not folded embeds by itself")


def can_fold(tower: Tower) -> bool:
    """Whether a tower may be folded: a float32 network with BatchNorm on the CPU, whose modules nobody watches.

    Hooks, replaced methods and compiled networks belong to somebody who expects the network itself to run.
    """
    model = tower.model
    modules = list(model.modules())
    return (
        "pixel_values" in tower.input_names
        and model.dtype == torch.float32
        and any(isinstance(module, nn.BatchNorm2d) for module in modules)
        and all(tensor.device == _CPU for tensor in model.parameters())
        and not any(map(_is_watched, modules))
        and can_pack()
        and not torch.compiler.is_compiling()
    )


def fold(tower: Tower) -> FoldedTower | LeftAsItIs:
    """Copy a tower for inference, with its BatchNorm folded into convolutions; see `packed_convolutions`.

    The copy shares all weights but those of the convolutions, which it holds once more. A copy that does not compute
    what the network computes is not used: the two are compared on noise. Nor is one of a tower without a processor,
    which does not tell the size of its inputs.
    """
    parameters = tower.model.num_parameters()
    layout = TorchBackend(tower.embed, _CPU, parameters).max_batch or _USUAL_BATCH
    with suppress(OSError, ValueError), torch.no_grad():
        noise = random_batch(tower, _COMPARED)
        copy = with_shared_weights(tower)
        expected = tower.embed(noise)
        if not pack_convolutions(copy.model, lambda: copy.embed(noise), layout):
            return LeftAsItIs()
        folded = FoldedTower(copy, parameters)
        difference = (folded.embed_batch(noise) - expected).abs().max() / expected.abs().max()
        if difference <= _TOLERANCE:
            return folded
        logger.log(levels.DEBUG, "%s: not folded, because that would change it by %g", tower.name, difference)
    return LeftAsItIs()


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _is_watched(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or "forward" in vars(module)
        or module._compiled_call_impl is not None
    )
