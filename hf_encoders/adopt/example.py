"""An input of a person's own for the proof: `--example`, a file of tensors, an array or a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.checkpoint import TensorHandle
from ..checkpoints.files import open_checkpoint
from ..checkpoints.finding.modules import as_mapping
from .errors import AdoptError
from .generation import Input
from .inputs import WantedInput
from .processors import Reader

_ARRAYS = (".npy",)
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".pfm", ".exr")
_TYPES = {torch.int64: "int64", torch.int32: "int32", torch.uint8: "uint8", torch.bool: "bool"}


@dataclass(frozen=True)
class Example:
    """What a file holds.

    Args:
        path: the file.
        tensors: by the names of `forward`; one without a name is the main input. None for a picture, which the
            processor reads.
    """

    path: Path
    tensors: Mapping[str, Tensor] | None

    def wanted(self) -> list[WantedInput]:
        """The inputs, where nobody says their shapes.

        Raises:
            AdoptError: for a picture, whose size the network does not have.
        """
        if self.tensors is None:
            raise AdoptError(f"--example {self.path}: a picture, so --input 1x3xHxW says which size the network takes")
        return [
            WantedInput(name, tuple(tensor.shape), _TYPES.get(tensor.dtype, "float32"))
            for name, tensor in self.tensors.items()
        ]

    def given(self, inputs: list[Input], reader: Reader) -> dict[str, Tensor]:
        """The tensors, by the names of `forward`.

        Args:
            inputs: of the network.
            reader: reads a picture.

        Raises:
            AdoptError: if they are not what the inputs say.
        """
        tensors = {"": reader.read(self.path)} if self.tensors is None else self.tensors
        by_name = {one.takes: one for one in inputs}
        given = {name or inputs[0].takes: tensor for name, tensor in tensors.items()}
        for name, tensor in given.items():
            if name not in by_name:
                raise AdoptError(f"--example {self.path}: {name} is no input; there are {', '.join(by_name)}")
            one = by_name[name]
            kind = _TYPES.get(tensor.dtype, "float32")
            if tuple(tensor.shape[1:]) != one.shape[1:] or kind != one.dtype:
                what = f"{'x'.join(map(str, tensor.shape))}:{kind}"
                raise AdoptError(
                    f"--example {self.path}: {name} is {what}, and --input says"
                    f" {'x'.join(map(str, one.shape))}:{one.dtype}"
                )
        return given


def read_example(path: Path) -> Example:
    """Read a file; nothing in it is executed.

    Raises:
        InputError: if it holds no tensors, or the file cannot be read.
    """
    ending = path.suffix.lower()
    if ending in _PICTURES:
        return Example(path, None)
    if ending in _ARRAYS:
        try:
            array = np.load(path, allow_pickle=False)
            return Example(path, {"": _checked(path, torch.from_numpy(np.ascontiguousarray(array)))})
        except (OSError, ValueError, TypeError) as error:
            raise AdoptError(path=path, reason=f"no array that can be read ({error})") from None
    content = open_checkpoint(path).content
    found = {"": content} if isinstance(content, TensorHandle) else as_mapping(content)
    tensors = {str(name): one for name, one in found.items() if isinstance(one, TensorHandle)}
    if not tensors or len(tensors) < len(found):
        raise AdoptError(path=path, reason="no example: expected a tensor, or tensors by the names that forward has")
    if len(tensors) == 1:
        tensors = {"": next(iter(tensors.values()))}
    return Example(path, {name: _checked(path, one.read().clone()) for name, one in tensors.items()})


def _checked(path: Path, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.float()
    elif tensor.dtype not in _TYPES:
        raise AdoptError(path=path, reason=f"holds {tensor.dtype}, which no input has; expected {', '.join(_NAMES)}")
    if tensor.ndim < 2 or not len(tensor):
        shape = "x".join(map(str, tensor.shape)) or "a single number"
        raise AdoptError(path=path, reason=f"is {shape}, expected a batch such as 1x3x224x224")
    return tensor.contiguous()


_NAMES = ("float32", *_TYPES.values())
