"""The options and the result of `encode...`, which are the same for every model and modality."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypedDict, TypeVar, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers.processing_utils import Unpack
from transformers.utils import logging

from .encode_arguments import check_arguments
from .input_batches import Skipped

logger = logging.get_logger(__name__)

# Embeddings [N, D], and which inputs [N] have one.
Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]
Encoded = Tensor | Vectors | tuple[Tensor, Tensor] | tuple[Vectors, Mask]

# The output of a processor: tensors by name.
Processed = Mapping[str, Tensor] | Mapping[str, NDArray[Any]]
Texts = str | Iterable[str] | Processed
Picture = str | bytes | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor | Mapping[str, object]
Pictures = Picture | Iterable[Picture]

BackendName = Literal["torch", "onnx", "openvino", "auto"]
DtypeName = Literal["float32", "bfloat16", "float16", "int8"]
Devices = str | torch.device | Sequence[str | torch.device]

# Seconds before a progress bar appears, unless one is asked for: short work shows none.
_PROGRESS_DELAY = 2.0
_Inputs = TypeVar("_Inputs", contravariant=True)
_Rest = ParamSpec("_Rest")


class ComputeOptions(TypedDict, total=False):
    """The options of every `encode...` method that leave the type of its result alone.

    Args:
        normalize: scale each embedding to length 1 (default: true for the multimodal encoder, false for the depth
            encoder).
        truncate_dim: keep only the first dimensions, this many (before normalising).
        show_progress_bar: true or false; by default a bar appears in a terminal when the work takes long.
        device: move the model there first; several, such as ["cuda:0", "cuda:1"], compute at a time, each with a copy
            of the model in a process of its own, which stays for the next call. A script that asks for several must
            guard its main code, as `multiprocessing` says: each process imports it.
        dtype: compute in "bfloat16" or "float16" (the weights stay as they are); "int8" with an exported model.
        backend: "torch" (the default), or on the CPU "openvino" or "onnx": they compile the tower when it is first
            used, or read what `hf-encoders export` wrote. "auto" tries, where there is much to embed, whether a
            compiled tower in float32 is faster than PyTorch, and takes the faster.
    """

    normalize: bool
    truncate_dim: int | None
    show_progress_bar: bool | None
    device: Devices | None
    dtype: DtypeName | torch.dtype | None
    backend: BackendName


class EncodeOptions(ComputeOptions, total=False):
    """All options of an `encode...` method.

    Args:
        convert_to: "tensor" (on the model's device; the default) or "numpy".
        on_error: "raise" (the default) or "skip": leave out inputs that cannot be used, and return
            `(embeddings, kept)`, where `kept` [N] is true for each input that has a row.
    """

    convert_to: Literal["tensor", "numpy"]
    on_error: Literal["raise", "skip"]


class Encode(Protocol[_Inputs]):
    """The type of an `encode...` method: `convert_to` and `on_error` decide what it returns."""

    @overload
    def __call__(
        self,
        inputs: _Inputs,
        batch_size: int = 32,
        *,
        convert_to: Literal["tensor"] = "tensor",
        on_error: Literal["raise"] = "raise",
        **options: Unpack[ComputeOptions],
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        inputs: _Inputs,
        batch_size: int = 32,
        *,
        convert_to: Literal["numpy"],
        on_error: Literal["raise"] = "raise",
        **options: Unpack[ComputeOptions],
    ) -> Vectors: ...

    @overload
    def __call__(
        self,
        inputs: _Inputs,
        batch_size: int = 32,
        *,
        convert_to: Literal["tensor"] = "tensor",
        on_error: Literal["skip"],
        **options: Unpack[ComputeOptions],
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def __call__(
        self,
        inputs: _Inputs,
        batch_size: int = 32,
        *,
        convert_to: Literal["numpy"],
        on_error: Literal["skip"],
        **options: Unpack[ComputeOptions],
    ) -> tuple[Vectors, Mask]: ...

    @overload
    def __call__(self, inputs: _Inputs, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded: ...


class EncodeMethod(Protocol[_Inputs]):
    """The type of an `encode...` method in its class."""

    def __get__(self, instance: object, owner: type | None = None) -> Encode[_Inputs]: ...


def encode_method(method: Callable[Concatenate[Any, _Inputs, _Rest], Encoded]) -> EncodeMethod[_Inputs]:
    """Give a method the overloads of `Encode`, and an answer to arguments that it does not take."""
    return cast(EncodeMethod[_Inputs], refusing_others(method, EncodeOptions.__annotations__))


def refusing_others(method: Callable[..., Encoded], options: Collection[str]) -> Callable[..., Encoded]:
    """The method, which refuses other arguments than its inputs, `batch_size` and the options; see `check_arguments`.

    Python's own message would name the method that met them, deep inside.
    """
    known = frozenset(["inputs", "batch_size", *options])

    @wraps(method)
    def checked(*arguments: Any, **given: Any) -> Encoded:
        check_arguments(method.__name__, given, known)
        return method(*arguments, **given)

    return checked


def check_options(batch_size: int, convert_to: str, on_error: str) -> None:
    """Raise ValueError for an option out of range."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if convert_to not in ("tensor", "numpy"):
        raise ValueError(f"convert_to is 'tensor' or 'numpy', got {convert_to!r}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is 'raise' or 'skip', got {on_error!r}")


def check_truncation(truncate_dim: int | None, dimensions: int) -> None:
    """Raise ValueError if there are fewer dimensions than are to be kept."""
    if truncate_dim is not None and not 1 <= truncate_dim <= dimensions:
        raise ValueError(f"truncate_dim must be from 1 to {dimensions}, got {truncate_dim}")


def shaped(embeddings: Tensor, truncate_dim: int | None, normalize: bool) -> Tensor:
    """Embeddings [N, D] cut to `truncate_dim` and scaled to length 1, as asked."""
    embeddings = embeddings[:, :truncate_dim]
    return nn.functional.normalize(embeddings, dim=-1) if normalize else embeddings


def in_order(rows: Tensor, indices: Sequence[int]) -> Tensor:
    """Sort rows, computed in any order, by the inputs that they belong to."""
    order = torch.tensor(indices, dtype=torch.long)
    return rows if bool((order.diff() > 0).all()) else rows[order.argsort().to(rows.device)]


def kept_inputs(embedded: int, skipped: Skipped) -> Tensor:
    """Mark the inputs [N] that have a row; warn where some have none."""
    kept = torch.ones(embedded + len(skipped), dtype=torch.bool)
    kept[list(skipped)] = False
    if skipped:
        first = min(skipped)
        logger.warning("%d of %d inputs skipped, the first: %s", len(skipped), len(kept), skipped[first])
    return kept


def progress_bar(total: int | None, show: bool | None) -> tqdm:
    """A bar that counts inputs."""
    # disable=None shows the bar in a terminal only.
    hidden = None if show is None else not show
    return tqdm(total=total, desc="Encoding", disable=hidden, delay=_PROGRESS_DELAY if show is None else 0)
