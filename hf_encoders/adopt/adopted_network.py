"""The base of an adopted network: transformers loads a network of somebody's own with the weights that it had there.

hf-encoders copied this file; it needs PyTorch and transformers alone. The network is `model.network`, and its weights
have the names in the file that they have in it.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

_NAME = "network"
# An attribute of the weights that the constructor made: what transformers makes for those that a file lacks has none.
_MADE = "_made_by_constructor"
# transformers takes these for old names of others. It leaves them alone where they are whole, as the model has them.
_OLD_NAMES = re.compile(r"LayerNorm\.(gamma|beta)|weight_[gv]$|^(model\.)?language_model\.model\b")


def file_name(name: str) -> str:
    """The name in the file of a weight of the network: the same, but for names that transformers takes for others."""
    return f"{_NAME}.{name}" if _OLD_NAMES.search(name) else name


class AdoptedModel(PreTrainedModel):
    """A network as a model of transformers. A subclass says in `build` how it is made, and in `forward` what it gives.

    `from_pretrained` makes models on the meta device, where a tensor has no values. A network may compute some in its
    constructor, so it is made on the CPU in float32 and then gets its weights.
    """

    base_model_prefix = _NAME

    def __init__(self, config: PreTrainedConfig):
        super().__init__(config)
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with torch.device("cpu"):
                self.network = self.build()
        finally:
            torch.set_default_dtype(dtype)
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            if tensor.is_floating_point():  # `network.to(dtype)` would make real numbers of complex ones
                tensor.data = tensor.data.to(dtype)
        self._tied_weights_keys = {_exactly(name): _exactly(first) for name, first in _shared(self.network).items()}
        # What no file holds: transformers makes room for these buffers, without values.
        self._unsaved = _unsaved_buffers(self.network)
        # What transformers loads without gradients.
        self._complex = [name for name, weight in self.network.named_parameters()
                         if weight.is_complex() and weight.requires_grad]  # fmt: skip
        for weight in self.network.parameters():
            setattr(weight, _MADE, True)
        self.post_init()

    def build(self) -> nn.Module:
        """Make the network."""
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Module:
        """The table of the network's words: its first one.

        Raises:
            NotImplementedError: if it has none.
        """
        tables = (module for module in self.network.modules() if isinstance(module, nn.Embedding))
        if (table := next(tables, None)) is None:
            raise NotImplementedError(f"{type(self.network).__name__} has no table of words")
        return table

    def _init_weights(self, module: nn.Module) -> None:
        """Refuse a file that lacks weights of a module; the constructor made the values of one that is not loaded.

        Raises:
            ValueError: if the file lacks weights, which nothing can make up.
        """
        for name, tensor in module.named_parameters(recurse=False):
            if not hasattr(tensor, _MADE) and not getattr(tensor, "_is_hf_initialized", False):
                raise ValueError(f"the file of weights lacks {name!r} of a {type(module).__name__}")

    @classmethod
    def from_pretrained(cls, *source: Any, **options: Any) -> Any:  # as that of transformers, which also gives a pair
        """Load as every model of transformers, and restore what that loses."""
        loaded = super().from_pretrained(*source, **options)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.restore()
        return loaded

    @torch.no_grad()
    def restore(self) -> None:
        """Undo what loading did to the network; a model that has this one as a part calls it when it was loaded.

        Buffers that no file holds get the values of the constructor, and complex weights get gradients again.
        """
        for name, values in self._unsaved.items():
            self.network.get_buffer(name).copy_(values)
        for name in self._complex:
            self.network.get_parameter(name).requires_grad_()

    def save_pretrained(  # type: ignore[override]  # it passes on whatever transformers takes
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Save as every model of transformers, under the names that the network has for its weights."""
        tensors = self.state_dict() if state_dict is None else state_dict
        own = {name.removeprefix(f"{_NAME}."): tensor for name, tensor in tensors.items()}
        for name in _shared(self.network):
            own.pop(name, None)
        named = {file_name(name): tensor for name, tensor in own.items()}
        super().save_pretrained(save_directory, is_main_process, named, **options)


def _shared(network: nn.Module) -> dict[str, str]:
    """Name of a weight that is one with another → the first name of it."""
    first: dict[int, str] = {}
    names = [(name, first.setdefault(id(weight), name)) for name, weight in
             network.named_parameters(remove_duplicate=False)]  # fmt: skip
    return {name: own for name, own in names if name != own}


def _exactly(name: str) -> str:
    """The pattern of one name: transformers takes what ties weights for patterns."""
    return re.escape(f"{_NAME}.{name}") + "$"


def _unsaved_buffers(network: nn.Module) -> dict[str, Tensor]:
    """The buffers that a state dict leaves out, with their values."""
    saved = network.state_dict().keys()
    return {name: values.clone() for name, values in network.named_buffers() if name not in saved}
