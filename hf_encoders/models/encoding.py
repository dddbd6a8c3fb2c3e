"""Any input → embeddings: batches, order, precision and progress, the same for every encoder."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers.utils import logging

from .saved_processor import SavedProcessorMixin

logger = logging.get_logger(__name__)

# Work that is done before this many seconds shows no progress bar, unless one is asked for.
_PROGRESS_DELAY = 2.0


class EncodingMixin(SavedProcessorMixin):
    """Adds `encode`; a model that uses it defines `_embed`: what `forward` takes → [B, D]."""

    def encode(
        self,
        inputs: Any,
        batch_size: int = 32,
        *,
        normalize: bool = False,
        truncate_dim: int | None = None,
        show_progress_bar: bool | None = None,
        convert_to: str = "tensor",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> Any:
        """Embed anything the processor reads, in evaluation and inference mode, in the order given.

        Args:
            inputs: what people hold. Raw inputs go through `processor`: paths, PIL images, arrays ([H, W],
                [N, H, W], [N, C, H, W]), lists of them, a `datasets` column, any iterable. What is processed already
                goes straight to the model: the processor's output, and 4-dimensional floating-point *tensors*
                (`pixel_values`).
            batch_size: how many inputs the model sees at a time. It does not change the result.
            normalize: scale each embedding to length 1.
            truncate_dim: keep the first so many dimensions (before normalising).
            show_progress_bar: true or false; by default a bar appears in a terminal when the work takes long.
            convert_to: "tensor" (on the model's device) or "numpy".
            device: move the model there first.
            dtype: compute in "bfloat16" or "float16" (autocast; the weights stay as they are).

        Returns:
            [N, D] float32, one row an input (one row for a single map too); [0, D] for no input.

        Raises:
            ValueError: for an option out of range, or an input that cannot be used (its path or index is named).
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if convert_to not in ("tensor", "numpy"):
            raise ValueError(f"convert_to is 'tensor' or 'numpy', got {convert_to!r}")
        dimensions = self.config.hidden_size
        if truncate_dim is not None and not 1 <= truncate_dim <= dimensions:
            raise ValueError(f"truncate_dim must be from 1 to {dimensions}, got {truncate_dim}")
        if device is not None:
            self.to(device)

        embeddings: list[Tensor] = []
        progress = self._progress(inputs, show_progress_bar)
        with evaluating(self), torch.inference_mode(), self._precision(dtype), progress as bar:
            for batch in self._model_inputs(inputs, batch_size):
                batch = {name: value.to(self.device) for name, value in batch.items()}
                embeddings.append(self._embed(batch).float())
                bar.update(len(embeddings[-1]))
        # Outside inference mode, so that the result is an ordinary tensor.
        result = torch.cat(embeddings) if embeddings else torch.empty(0, dimensions, device=self.device)
        result = result[:, :truncate_dim]
        if normalize:
            result = nn.functional.normalize(result, dim=-1)
        return result.cpu().numpy() if convert_to == "numpy" else result

    def _embed(self, inputs: dict[str, Tensor]) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not say how it embeds")

    def _model_inputs(self, inputs: Any, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """What `forward` takes, a batch at a time."""
        ready = _processed(inputs)
        if ready is not None:
            for start in range(0, len(ready), batch_size):
                yield {"pixel_values": ready[start : start + batch_size]}
            return
        start = 0
        for items in _batches(inputs, batch_size):
            yield dict(self.processor(items, first_index=start))
            start += len(items)

    def _precision(self, dtype: str | torch.dtype | None) -> AbstractContextManager[Any]:
        name = str(dtype or self.dtype).removeprefix("torch.")
        if name == str(self.dtype).removeprefix("torch."):
            return nullcontext()
        if name not in ("bfloat16", "float16"):
            raise ValueError(f"dtype={name}: load the model in it (from_pretrained(..., dtype={name!r})) instead")
        return torch.autocast(self.device.type, dtype=getattr(torch, name))

    @staticmethod
    def _progress(inputs: Any, show: bool | None) -> Any:
        total = 1 if _is_single(inputs) else len(inputs) if hasattr(inputs, "__len__") else None
        if isinstance(inputs, Mapping):
            total = len(inputs.get("pixel_values", ()))
        # disable=None shows the bar in a terminal only.
        hidden = None if show is None else not show
        return tqdm(total=total, desc="Encoding", disable=hidden, delay=_PROGRESS_DELAY if show is None else 0)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and afterwards each of its modules back into the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _processed(inputs: Any) -> Tensor | None:
    """`pixel_values`, if the inputs went through the processor already."""
    if isinstance(inputs, Mapping):
        if "pixel_values" not in inputs:
            raise ValueError(f"a mapping with {', '.join(map(str, inputs)) or 'nothing'}, expected pixel_values")
        return torch.as_tensor(inputs["pixel_values"])
    if isinstance(inputs, Tensor) and inputs.ndim == 4 and inputs.is_floating_point():
        if inputs.numel() and not (inputs.amin() >= -1.01 and inputs.amax() <= 1.01):
            logger.warning(
                "encode takes a 4-dimensional tensor for pixel_values in [-1, 1], and this one lies outside; for raw"
                " maps pass a list of them, an array, or [N, H, W]"
            )
        return inputs
    return None


def _is_single(inputs: Any) -> bool:
    # An array of no dimensions is one (bad) input too: it has no length, and the processor says what is wrong with it.
    return isinstance(inputs, str) or not hasattr(inputs, "__iter__") or getattr(inputs, "ndim", 3) in (0, 2)


def _batches(inputs: Any, batch_size: int) -> Iterator[Any]:
    """Lists or arrays of at most `batch_size` inputs, read as late as possible."""
    if hasattr(inputs, "column_names"):
        raise ValueError(f"a data set, expected one of its columns: {', '.join(inputs.column_names or ())}")
    if _is_single(inputs):
        yield [inputs]
    elif isinstance(inputs, (np.ndarray, Tensor)):
        for start in range(0, len(inputs), batch_size):
            yield inputs[start : start + batch_size]
    else:
        items = iter(inputs)
        while batch := list(itertools.islice(items, batch_size)):
            yield batch
