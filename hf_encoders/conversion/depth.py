"""A legacy depth checkpoint → DepthSemanticEncoderModel or DepthAutoencoderModel."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..checkpoints.errors import CheckpointError
from ..checkpoints.state_dicts import check_values
from ..hub.reports import PartsReport, TrainingInfo, Verification
from ..models.image_processing_depth import DepthImageProcessor
from ..models.modeling_depth_autoencoder import DepthAutoencoderModel
from ..models.modeling_depth_semantic_encoder import DepthSemanticEncoderModel
from .families.legacy.depth_layouts import AUTOENCODER, LegacyDepthCheckpoint
from .plain_data import harmless, plain_data
from .training_state import check_training_state, legacy_training_state, write_training_state
from .verify_depth import depth_outputs, verify_depth


@dataclass(frozen=True)
class DepthOptions:
    """Options of a depth conversion.

    Args:
        include_decoder: write the autoencoder instead of the encoder alone.
        input_channels: number of channels that the file must have.
        latent_dim: dimension of the embedding that the file must have.
        with_training_state: write the optimizer's state too; it needs the decoder, which was trained with the encoder.
    """

    include_decoder: bool = False
    input_channels: int | None = None
    latent_dim: int | None = None
    with_training_state: bool = False


class DepthConversion:
    """A depth checkpoint on its way to a repo; see `write_repo.Conversion`.

    Raises:
        CheckpointError: if the file contradicts an option.
    """

    def __init__(self, source: LegacyDepthCheckpoint, options: DepthOptions):
        for option, stated, found in (
            ("--input-channels", options.input_channels, source.config.num_channels),
            ("--latent-dim", options.latent_dim, source.config.hidden_size),
        ):
            if stated not in (None, found):
                raise CheckpointError(
                    f"{source.path}: the file says {found}, not {option} {stated}; leave the option out"
                )
        if options.include_decoder and source.layout != AUTOENCODER:
            raise CheckpointError(f"{source.path}: holds no decoder; leave --include-decoder out")
        self.training_state = _training_state(source, options) if options.with_training_state else None
        self.source = source
        self.include_decoder = options.include_decoder
        prefixes = ("encoder.", "decoder.") if options.include_decoder else ("encoder.",)
        self.wanted: Mapping[str, Tensor] = source.tensors.only(prefixes)

    def check(self) -> None:
        """Refuse tensors with values that no network can hold."""
        check_values(self.source.path, self.wanted)

    def write(self, repo: Path, tensors: dict[str, Tensor]) -> PreTrainedModel:
        """Write the model and its processor."""
        config = self.source.config
        with torch.device("meta"):
            model = DepthAutoencoderModel(config) if self.include_decoder else DepthSemanticEncoderModel(config)
        state_dict = {self._target(name): tensor.contiguous() for name, tensor in tensors.items()}
        model.load_state_dict(state_dict, assign=True)
        model.processor = DepthImageProcessor(size=config.image_size, num_channels=config.num_channels)
        model.save_pretrained(repo)
        if self.training_state:
            write_training_state(repo, *self.training_state)
            check_training_state(repo, model)
        return model

    def expected(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the verification's inputs through the legacy network."""
        return depth_outputs(self.source.config, tensors)

    def verify(self, repo: Path, expected: Mapping[str, Tensor]) -> Verification:
        """Compare a repo's outputs with the expected ones."""
        return verify_depth(repo, expected)

    def report(self, model: PreTrainedModel) -> PartsReport:
        """The parts that are written."""
        encoder = cast(PreTrainedModel, model.base_model)
        return {
            "decoder": self.include_decoder,
            "dropped": [harmless(key) for key in self.source.chosen.dropped],
            "parameters": {"total": model.num_parameters(), "encoder": encoder.num_parameters()},
            "training_state": self.training_state[1] if self.training_state else None,
        }

    def keys(self) -> dict[str, str | None]:
        """Key in the file → name in the repo, or None for a decoder that is left out."""
        names = self.source.source_keys.items()
        kept = {key: self._target(name) if name in self.wanted else None for name, key in names}
        return kept | dict.fromkeys(self.source.chosen.dropped)

    def release(self) -> None:
        """Let go of the tensors of the file and of the optimizer."""
        del self.source, self.wanted, self.training_state

    def _target(self, name: str) -> str:
        return name if self.include_decoder else name.removeprefix("encoder.")


def _training_state(source: LegacyDepthCheckpoint, options: DepthOptions) -> tuple[dict[str, Tensor], TrainingInfo]:
    """AdamW's state by the names of parameters, and how far the training had come.

    The files number epochs from 0 and do not count steps, but AdamW does.

    Raises:
        CheckpointError: if there is no such state, or the repo would lack some of its parameters.
    """
    tensors, info = legacy_training_state(source)
    if not options.include_decoder:
        raise CheckpointError(
            f"{source.path}: its optimizer trained the decoder too; give --include-decoder with --with-training-state"
        )
    steps = [int(tensor) for name, tensor in tensors.items() if name.endswith(".step")]
    info["global_step"] = max(steps) if info["global_step"] is None else info["global_step"]
    info["finished_epochs"] = 0 if info["epoch"] is None else info["epoch"] + 1
    info["history"] = plain_data(source.metadata.get("training_history"))
    return tensors, info
