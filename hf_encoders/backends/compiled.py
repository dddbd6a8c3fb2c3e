"""Which engine computes the embeddings of `encode`: PyTorch, or one that a tower is compiled for."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from ..models.encoding_batches import Batch
from ..models.torch_backend import TorchEngine
from .exported_files import exported_file
from .onnx_backend import OnnxEngine
from .openvino_backend import OpenVinoEngine
from .programs import export_tower, input_names

_Embed = Callable[[dict[str, Tensor]], Tensor]
_COMPILED: dict[str, tuple[type[Any], tuple[str, ...]]] = {
    "onnx": (OnnxEngine, ("float32", "int8")),
    "openvino": (OpenVinoEngine, ("float32", "bfloat16", "int8")),
}
BACKENDS = ("torch", *_COMPILED)


class Engine(Protocol):
    """What embeds.

    Attributes:
        most: inputs in a batch, beyond which it becomes slower; None for no such limit.
    """

    most: int | None

    def embed(self, batches: Iterator[Batch]) -> Iterator[tuple[list[int], Tensor]]:
        """Batches → their indices and embeddings [B, D], in any order."""


class Engines:
    """The engines of a model: compiled when they are first asked for, and again when the weights are others."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, str, str], tuple[Any, Engine]] = {}

    def __reduce__(self) -> Any:
        return Engines, ()  # a copy of the model compiles its own

    def get(
        self, model: Any, tower: str, embed: _Embed, backend: str = "torch", dtype: str | torch.dtype | None = None
    ) -> Engine:
        """The engine of a tower.

        Args:
            model: the encoder.
            tower: "text", "image" or "depth".
            embed: the model's method for a batch.
            backend: "torch", "onnx" or "openvino".
            dtype: the precision to compute in; by default that of the weights.

        Raises:
            ValueError: if the backend has no such precision, or needs an exported model for it.
            ImportError: if the backend's library is missing.
        """
        if backend not in BACKENDS:
            raise ValueError(f"backend is {' or '.join(map(repr, BACKENDS))}, got {backend!r}")
        own = str(model.dtype).removeprefix("torch.")
        precision = str(dtype or own).removeprefix("torch.")
        if backend == "torch":
            return TorchEngine(embed, model._input_device, model.num_parameters(), _autocast(precision, own))
        kind, precisions = _COMPILED[backend]
        if dtype is None and precision not in precisions:
            precision = "float32"  # of half-precision weights: nothing is lost
        if precision not in precisions:
            raise ValueError(f"{backend} computes in {' or '.join(precisions)}, not in {precision}")
        return self._get_compiled(model, tower, embed, backend, precision, kind)

    def _get_compiled(
        self, model: Any, tower: str, embed: _Embed, backend: str, precision: str, kind: type[Any]
    ) -> Engine:
        weights = [(tensor.data_ptr(), tensor._version) for tensor in model.state_dict(keep_vars=True).values()]
        made_of, engine = self._compiled.get((tower, backend, precision), (None, None))
        if made_of != weights or engine is None:
            try:
                source = exported_file(model, backend, tower, precision)
                engine = kind(source or export_tower(model, tower, embed.__name__), input_names(tower), precision)
            except ModuleNotFoundError as error:
                raise ImportError(f"backend={backend!r} needs: pip install 'hf-encoders[export]' ({error})") from error
            self._compiled[tower, backend, precision] = weights, engine
        return engine


def _autocast(precision: str, own: str) -> torch.dtype | None:
    if precision == own:
        return None
    if precision == "int8":
        raise ValueError("PyTorch computes no int8 here: give backend='openvino' or 'onnx', and an exported model")
    if precision not in ("bfloat16", "float16"):
        raise ValueError(f"dtype={precision}: load the model in it (from_pretrained(..., dtype={precision!r})) instead")
    return torch.float16 if precision == "float16" else torch.bfloat16
