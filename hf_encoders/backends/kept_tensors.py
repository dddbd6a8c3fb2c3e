"""Whether a tensor has the values that it had: cheap enough for every call."""

from weakref import ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Of larger tensors some values are compared, evenly spaced: a fraction of a millisecond for a network of 100 million.
_ALL_VALUES = 4096
_SOME_VALUES = 64
# NumPy has no type for some of PyTorch's: their bits are compared, as integers of the same size.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class KeptTensor:
    """A tensor as it was: which one, where it lies, how often it was changed in place, and some of its values.

    PyTorch counts no changes through `tensor.data`, `tensor.numpy()` or other libraries; the values tell of those.
    """

    def __init__(self, tensor: Tensor):
        self._ref = ref(tensor)
        self._place = _place(tensor)
        # A view holds the memory, so that no other tensor can come to lie there.
        self._view = _some_values(tensor)
        self._values = None if self._view is None else self._view.tobytes()

    def is_same(self, value: object) -> bool:
        """Whether a value is the tensor, unchanged."""
        return (
            isinstance(value, Tensor)
            and value is self._ref()
            and _place(value) == self._place
            and (self._view is None or self._view.tobytes() == self._values)
        )


def _place(tensor: Tensor) -> tuple[object, ...]:
    # Tensors that were made in inference mode count no changes.
    version = -1 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.shape, tensor.stride()


def _some_values(tensor: Tensor) -> "NDArray[np.generic] | None":
    """A view of some of the values; None if they do not lie in the memory of the CPU."""
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.numel() == 0:
        return None
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    step = 1 if span <= _ALL_VALUES else span // _SOME_VALUES
    values = torch.as_strided(tensor.detach(), (-(-span // step),), (step,), tensor.storage_offset())
    try:
        return values.numpy()
    except (TypeError, RuntimeError):
        return values.view(_BITS[values.itemsize]).numpy()
