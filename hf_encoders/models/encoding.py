"""Any input → embeddings: batches, order, precision and progress, the same for every encoder and modality."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import logging

from ..backends.compiled import Engines
from .encoding_batches import Batch, Skipped
from .evaluation_mode import evaluating
from .saved_processor import SavedProcessorMixin

logger = logging.get_logger(__name__)

# Work that is done before this many seconds shows no progress bar, unless one is asked for.
_PROGRESS_DELAY = 2.0


class EncodeOptions(TypedDict, total=False):
    """What every `encode...` method takes.

    Args:
        batch_size: how many inputs the model sees at a time (default 32); a large model in PyTorch on a CPU at
            most 8 a thread, for more would be slower. It does not change the result.
        normalize: scale each embedding to length 1 (default: true for the multimodal encoder, false for the depth
            encoder).
        truncate_dim: keep the first so many dimensions (before normalising).
        show_progress_bar: true or false; by default a bar appears in a terminal when the work takes long.
        convert_to: "tensor" (on the model's device; the default) or "numpy".
        device: move the model there first.
        dtype: compute in "bfloat16" or "float16" (the weights stay as they are); "int8" with an exported model.
        backend: what computes: "torch" (the default), or on the CPU "openvino" or "onnx", which compile the tower when
            it is first used, or read what `hf-encoders export` wrote.
        on_error: "raise" (the default) or "skip": leave out inputs that cannot be used, and return
            `(embeddings, kept)`, where `kept` [N] is true for each input that has a row.
    """

    batch_size: int
    normalize: bool
    truncate_dim: int | None
    show_progress_bar: bool | None
    convert_to: str
    device: str | torch.device | None
    dtype: str | torch.dtype | None
    backend: str
    on_error: str


@dataclass(frozen=True)
class Encoding:
    """One kind of input on its way to embeddings.

    Args:
        tower: "text", "image" or "depth".
        batches: the batch size and where to collect what is skipped (or None) → batches in any order.
        embed: a batch as the model takes it → [B, D].
        dimensions: D.
        total: how many inputs there are, if known.
    """

    tower: str
    batches: Callable[[int, Skipped | None], Iterator[Batch]]
    embed: Callable[[dict[str, Tensor]], Tensor]
    dimensions: int
    total: int | None = None


class EncodingMixin(SavedProcessorMixin):
    """Adds what the `encode...` methods of the models have in common."""

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        self.engines = Engines()

    def _encode(
        self,
        encoding: Encoding,
        *,
        batch_size: int = 32,
        normalize: bool = False,
        truncate_dim: int | None = None,
        show_progress_bar: bool | None = None,
        convert_to: str = "tensor",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        backend: str = "torch",
        on_error: str = "raise",
    ) -> Any:
        """Embed batch by batch, in evaluation and inference mode; the options are `EncodeOptions`."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if convert_to not in ("tensor", "numpy"):
            raise ValueError(f"convert_to is 'tensor' or 'numpy', got {convert_to!r}")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is 'raise' or 'skip', got {on_error!r}")
        _check_truncation(truncate_dim, encoding.dimensions)
        if device is not None:
            self.to(device)

        skipped: Skipped = {}
        indices: list[int] = []
        rows: list[Tensor] = []
        progress = _progress(encoding.total, show_progress_bar)
        with evaluating(self):
            engine = self.engines.get(self, encoding.tower, encoding.embed, backend, dtype)
            batches = encoding.batches(
                min(batch_size, engine.most or batch_size), skipped if on_error == "skip" else None
            )
            with torch.inference_mode(), progress as bar:
                for batch_indices, embeddings in engine.embed(batches):
                    rows.append(embeddings.to(self._input_device, torch.float32))
                    indices += batch_indices
                    bar.update(len(batch_indices))
        # Outside inference mode, so that the result is an ordinary tensor.
        result: Any = torch.cat(rows) if rows else torch.empty(0, encoding.dimensions, device=self._input_device)
        result = shaped(_in_order(result, indices), truncate_dim, normalize)
        kept: Any = _kept(indices, skipped)
        if convert_to == "numpy":
            result, kept = result.cpu().numpy(), kept.numpy()
        return (result, kept) if on_error == "skip" else result

    @property
    def _input_device(self) -> torch.device:
        """Where batches go: to the weights, or to the CPU while all are offloaded, as accelerate moves them on."""
        on_device = (parameter.device for parameter in self.parameters() if parameter.device.type != "meta")
        is_offloaded = any(hasattr(module, "_hf_hook") for module in self.modules())
        return next(on_device, torch.device("cpu") if is_offloaded else self.device)


def _check_truncation(truncate_dim: int | None, dimensions: int) -> None:
    if truncate_dim is not None and not 1 <= truncate_dim <= dimensions:
        raise ValueError(f"truncate_dim must be from 1 to {dimensions}, got {truncate_dim}")


def shaped(embeddings: Tensor, truncate_dim: int | None, normalize: bool) -> Tensor:
    """Embeddings [B, D] cut to `truncate_dim` and scaled to length 1, as asked.

    Raises:
        ValueError: if there are no so many dimensions.
    """
    _check_truncation(truncate_dim, embeddings.shape[-1])
    embeddings = embeddings[:, :truncate_dim]
    return nn.functional.normalize(embeddings, dim=-1) if normalize else embeddings


def _in_order(rows: Tensor, indices: Sequence[int]) -> Tensor:
    """Rows in the order of the inputs, whatever order they were computed in."""
    order = torch.tensor(indices, dtype=torch.long)
    return rows if bool((order.diff() > 0).all()) else rows[order.argsort().to(rows.device)]


def _kept(indices: Sequence[int], skipped: Skipped) -> Tensor:
    kept = torch.ones(len(indices) + len(skipped), dtype=torch.bool)
    kept[list(skipped)] = False
    if skipped:
        first = min(skipped)
        logger.warning("%d of %d inputs skipped, the first: %s", len(skipped), len(kept), skipped[first])
    return kept


def _progress(total: int | None, show: bool | None) -> Any:
    # disable=None shows the bar in a terminal only.
    hidden = None if show is None else not show
    return tqdm(total=total, desc="Encoding", disable=hidden, delay=_PROGRESS_DELAY if show is None else 0)
