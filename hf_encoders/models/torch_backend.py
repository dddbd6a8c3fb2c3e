"""PyTorch behind `encode`: any device, any precision of autocast, and batches that fit into its memory."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from .encoding_batches import Batch

logger = logging.get_logger(__name__)

# On a CPU. Of larger batches the activations pass 32 MB, which glibc takes from the system anew for each layer, and
# a third of the time goes into clearing their pages. Small networks want larger batches: theirs fit, and the time of
# Python counts.
_INPUTS_A_THREAD = 8
_LARGE = 10_000_000


class TorchEngine:
    """A tower as it is.

    Args:
        embed: a batch → [B, D].
        device: where batches go.
        parameters: how many the model has.
        autocast: the precision to compute in, if it is not that of the weights.
    """

    def __init__(
        self,
        embed: Callable[[dict[str, Tensor]], Tensor],
        device: torch.device,
        parameters: int,
        autocast: torch.dtype | None = None,
    ):
        self._embed, self._device, self._autocast = embed, device, autocast
        is_bound = device.type == "cpu" and parameters > _LARGE
        self.most = _INPUTS_A_THREAD * torch.get_num_threads() if is_bound else None
        self._fits: int | None = None  # after the first batch that did not
        self._did_not_fit = 0

    def embed(self, batches: Iterator[Batch]) -> Iterator[tuple[list[int], Tensor]]:
        """Batches → their indices and embeddings [B, D], in order.

        Where the memory of the device is too small for a batch, it is halved, as often as it takes, and so are those
        that follow.
        """
        context: Any = torch.autocast(self._device.type, dtype=self._autocast) if self._autocast else nullcontext()
        for indices, batch in batches:
            indices, start = list(indices), 0
            with context:
                while start < len(indices):
                    size = min(self._fits or len(indices), len(indices))
                    part = slice(start, start + size)
                    rows = self._try({name: tensor[part] for name, tensor in batch.items()}, size)
                    if rows is not None:
                        yield indices[part], rows
                        start += size

    def _try(self, batch: dict[str, Tensor], size: int) -> Tensor | None:
        """Embed a batch; None if it was too large, and a smaller one is to be tried."""
        try:
            rows = self._embed({name: tensor.to(self._device) for name, tensor in batch.items()})
        except RuntimeError as error:
            from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

            if size == 1 or not should_reduce_batch_size(error):
                raise
            self._did_not_fit, self._fits = self._did_not_fit or size, size // 2
            clear_device_cache(garbage_collection=True)
            return None
        if self._did_not_fit and self._did_not_fit > size == self._fits:
            warning = "%d inputs at a time are too many for the memory of %s: batch_size=%d fits"
            logger.warning(warning, self._did_not_fit, self._device, size)
            self._did_not_fit = 0
        return rows
