"""Freezing parts of a model by name, BatchNorm statistics included."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:  # the mixin stands before PreTrainedModel, whose methods it extends
    from transformers.modeling_utils import PreTrainedModel as _Base
else:
    _Base = object

_Module = TypeVar("_Module", bound="FreezingMixin")


class FreezingMixin(_Base):
    """Adds `freeze` and `unfreeze`.

    A BatchNorm whose parameters are frozen also keeps its running statistics, in train mode too: otherwise a "frozen"
    layer would go on changing what it computes.
    """

    def freeze(self, names: Iterable[str] | None = None) -> None:
        """Stop training the named modules.

        Args:
            names: modules of this model or of its base model, such as `["stem", "layer1"]`; dotted paths such as
                `"layer1.0"` go deeper. Without names, everything.

        Raises:
            ValueError: if a name is unknown; the message lists the known ones, and nothing is frozen.
        """
        self._set_trainable(names, False)

    def unfreeze(self, names: Iterable[str] | None = None) -> None:
        """Train the named modules again: the inverse of `freeze`, with the same names and errors."""
        self._set_trainable(names, True)

    def train(self: _Module, mode: bool = True) -> _Module:
        """Switch to training (or, with False, evaluation); frozen BatchNorm layers stay in evaluation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm) and module.affine and not module.weight.requires_grad:
                module.eval()
        return self

    def _set_trainable(self, names: Iterable[str] | None, trainable: bool) -> None:
        names = [names] if isinstance(names, str) else names
        modules = [self] if names is None else [self._named_module(name) for name in names]
        for module in modules:
            module.requires_grad_(trainable)
        self.train(self.training)

    def _named_module(self, name: str) -> nn.Module:
        known = dict(self.base_model.named_children()) | dict(self.named_children())
        first, _, rest = name.partition(".")
        try:
            return known[first].get_submodule(rest)
        except (KeyError, AttributeError):
            raise ValueError(f"{type(self).__name__} has no module {name!r}; it has {', '.join(known)}") from None
