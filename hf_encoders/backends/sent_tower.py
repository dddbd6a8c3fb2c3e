"""A tower on its way to another process: its weights once, and all else each time that it has changed."""

import io
import pickle
from typing import cast

import torch
from torch import Tensor, nn

from ..models.tower import Tower
from .kept_tensors import KeptTensor

_LINE = 64  # bytes of a cache line


class SentTower:
    """The weights of a model as they were sent, and towers of the model without them.

    Args:
        model: whose parameters and buffers are sent.
    """

    def __init__(self, model: nn.Module):
        # Parameters of other types, such as quantised ones, travel with the rest.
        parameters = [each for each in model.parameters() if type(each) is nn.Parameter]
        self._tensors: list[Tensor] = [*parameters, *model.buffers()]
        self._kept = [KeptTensor(tensor) for tensor in self._tensors]
        self._numbers = {id(tensor): number for number, tensor in enumerate(self._tensors)}

    def weights(self) -> bytes:
        """The weights as `Receiver` takes them."""
        stream = io.BytesIO()
        sent = [(each.detach(), isinstance(each, nn.Parameter), each.data_ptr() % _LINE) for each in self._tensors]
        torch.save(sent, stream)
        return stream.getvalue()

    def has_weights_of(self, model: nn.Module) -> bool:
        """Whether they are the weights of a model now."""
        parameters = [each for each in model.parameters() if type(each) is nn.Parameter]
        now = [*parameters, *model.buffers()]
        return len(now) == len(self._kept) and all(
            kept.is_same(tensor) for kept, tensor in zip(self._kept, now, strict=True)
        )

    def without_weights(self, tower: Tower) -> bytes:
        """A tower as `Receiver` takes it: its processor, its settings, all but the weights of its model.

        Raises:
            ValueError: if something of it cannot be sent, such as a hook that is a lambda.
        """
        stream = io.BytesIO()
        pickler = _Pickler(stream, self._numbers)
        try:
            pickler.dump(tower)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(f"the model cannot be sent to other processes: {error}") from error
        return stream.getvalue()


class Receiver:
    """The other end.

    Args:
        weights: what was sent.
        device: where they are to be.
    """

    def __init__(self, weights: bytes, device: str):
        loaded = torch.load(io.BytesIO(weights), map_location=device, weights_only=True)
        self._device = device
        self._tensors: list[Tensor] = []
        for tensor, is_parameter, offset in loaded:
            placed = _placed(tensor, offset)
            self._tensors.append(nn.Parameter(placed, requires_grad=False) if is_parameter else placed)

    def tower(self, sent: bytes) -> Tower:
        """A tower of the model, with the weights."""
        tower = cast(Tower, _Unpickler(io.BytesIO(sent), self._tensors).load())
        module: nn.Module = tower.model  # whose `to` has its types; transformers decorates its own
        module.to(self._device)
        return tower


def _placed(tensor: Tensor, offset: int) -> Tensor:
    """The tensor, at so many bytes behind the begin of a cache line, if it is on a CPU.

    MKL multiplies a matrix by one vector in another order where the matrix begins elsewhere, and weights that are
    mapped from a file begin anywhere: the last bit of an embedding would be another one.
    """
    if tensor.device.type != "cpu" or tensor.data_ptr() % _LINE == offset or not tensor.is_contiguous():
        return tensor
    room = torch.empty(tensor.nbytes + _LINE, dtype=torch.uint8)
    start = (offset - room.data_ptr()) % _LINE
    return room[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)


def received_without_weights(sent: bytes) -> Tower:
    """A tower that prepares inputs, and embeds nothing; `sent` as `SentTower.without_weights` makes it."""
    return cast(Tower, _Unpickler(io.BytesIO(sent), _Placeholders()).load())


class _Placeholders:
    """A tensor without values for each number."""

    def __getitem__(self, number: int) -> Tensor:
        return nn.Parameter(torch.empty(0), requires_grad=False)


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, numbers: dict[int, int]):
        super().__init__(stream)
        self._numbers = numbers

    def persistent_id(self, value: object) -> int | None:
        return self._numbers.get(id(value)) if isinstance(value, Tensor) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, tensors: list[Tensor] | _Placeholders):
        super().__init__(stream)
        self._tensors = tensors

    def persistent_load(self, number: int) -> Tensor:
        return self._tensors[number]
