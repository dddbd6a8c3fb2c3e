"""A checkpoint of a known family of encoders → a repo that transformers loads by itself."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..checkpoints.state_dicts import check_values
from ..hub.reports import PartsReport, Verification
from .assumptions import as_report
from .encoder_source import EncoderSource, build
from .families.moves import apply
from .plain_data import harmless
from .verify_encoder import encoder_outputs, verify_encoder


class EncoderConversion:
    """A checkpoint of a known family on its way to a repo; see `write_repo.Conversion`."""

    def __init__(self, source: EncoderSource):
        self.source = source
        self.inputs = source.plan.inputs
        self.wanted: Mapping[str, Tensor] = source.tensors

    def check(self) -> None:
        """Refuse tensors with values that no network can hold."""
        check_values(self.source.path, self.wanted)

    def write(self, repo: Path, tensors: dict[str, Tensor]) -> PreTrainedModel:
        """Write the model and its processor."""
        plan = self.source.plan
        model = build(plan)
        dtype = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
        state_dict = {name: _of_type(tensor, dtype) for name, tensor in apply(plan.moves, tensors).items()}
        model.load_state_dict({name: state_dict[name] for name in model.state_dict()}, assign=True)
        model.save_pretrained(repo, state_dict=state_dict)
        return model

    def expected(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the verification's inputs through the family's reference."""
        return encoder_outputs(self.source.plan, tensors)

    def verify(self, repo: Path, expected: Mapping[str, Tensor]) -> Verification:
        """Compare a repo's outputs with the expected ones."""
        return verify_encoder(repo, self.inputs, expected)

    def report(self, model: PreTrainedModel) -> PartsReport:
        """What was assumed, left out and made."""
        plan = self.source.plan
        return {
            "parameters": {"total": model.num_parameters()},
            "assumed": as_report(plan.assumed),
            "dropped": [harmless(key) for key in (*self.source.dropped, *self.source.chosen.dropped)],
            "untrained": list(plan.untrained),
        }

    def keys(self) -> dict[str, str | None]:
        """Key in the file → name in the model, or None for what is not carried over."""
        kept: dict[str, str | None] = {}
        for move in self.source.plan.moves:
            for name in move.sources:
                kept[self.source.source_keys[name]] = " + ".join(move.targets) or None
        return kept | dict.fromkeys([*self.source.dropped, *self.source.chosen.dropped])

    def release(self) -> None:
        """Let go of the file's tensors."""
        del self.wanted, self.source


def _of_type(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).contiguous() if tensor.is_floating_point() else tensor.contiguous()
