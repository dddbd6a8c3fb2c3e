"""Recognises a legacy depth checkpoint in any wrapping, and infers its configuration from the shapes."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ....checkpoints.errors import LayoutError
from ....checkpoints.files import open_checkpoint
from ....checkpoints.finding.choice import ChosenWeights, WeightsWanted, choose
from ....checkpoints.finding.modules import as_mapping, without_nodes
from ....checkpoints.finding.weights import LazyTensors, TensorWeight, Weight
from ....checkpoints.state_dicts import COUNTER, STATISTICS, TOWERS, Shape, check_names, check_shapes, rename
from ....models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ....models.modeling_depth_autoencoder import DepthAutoencoderModel
from ..names import DEPTH, OWN_FAMILIES, layout_of
from .depth_sizes import infer_config

AUTOENCODER, ENCODER = "depth-autoencoder", "depth-encoder"
LAYOUTS = (AUTOENCODER, ENCODER)
MODEL_TYPE = "EnhancedResNet50Encoder"  # the encoder's name in legacy files

_SMALLEST_SIDE = 32  # pixels; the encoder takes no smaller map
# Keys of configurations, and of the image size in them.
_CONFIGURATIONS = ("config", "model_config", "args", "cfg", "hparams", "hyper_parameters", "opt")
_IMAGE_SIZES = ("image_size", "img_size")


@dataclass(frozen=True)
class LegacyDepthCheckpoint:
    """A legacy depth checkpoint, read and recognised.

    Args:
        path: where it was read from.
        layout: "depth-autoencoder" or "depth-encoder".
        wrapping: how the file holds the state dict, such as "training checkpoint" or "bare state dict".
        config: inferred from the shapes.
        tensors: by canonical name: `encoder.` or `decoder.` and the legacy name. Each is read when it is asked for.
        source_keys: canonical name → key in the file; tensors that the file lacks have none.
        metadata: the file's other entries (epoch, loss, history, configuration), without optimizer states.
        chosen: the weights that were taken, and what else is in the file.
        notes: what was made or renamed, one line each.
    """

    path: Path
    layout: str
    wrapping: str
    config: DepthSemanticEncoderConfig
    tensors: LazyTensors
    source_keys: dict[str, str]
    metadata: dict[str, object]
    chosen: ChosenWeights
    notes: list[str] = field(default_factory=list)

    @property
    def parameter_names(self) -> list[str]:
        """Canonical names of all parameters, in the file's order: as the optimizer numbers them."""
        return [name for name in self.source_keys if not name.endswith(STATISTICS)]

    @property
    def optimizer_state(self) -> Mapping[str, object] | None:
        """The optimizer's state dict, if the file holds one."""
        return self.chosen.optimizer if isinstance(self.chosen.optimizer, Mapping) else None

    def has_network_order(self) -> bool:
        """Whether the file lists its parameters as the network defines them, because an optimizer numbers them so."""
        with torch.device("meta"):
            network = DepthAutoencoderModel(self.config)
        names = [name for name, _ in network.named_parameters()]
        return self.parameter_names == [
            name for name in names if self.layout == AUTOENCODER or name.startswith("encoder.")
        ]

    def model_name(self, canonical: str) -> str:
        """The name of a parameter in `DepthAutoencoderModel`, which keeps the legacy names."""
        return canonical

    def is_dropped(self, canonical: str) -> bool:
        """Whether a parameter is not carried over: none is."""
        return False

    def may_lack_state(self, canonical: str) -> bool:
        """Whether the legacy training never gave a parameter a gradient: it gave each one."""
        return False

    def encoder_tensors(self) -> dict[str, Tensor]:
        """The encoder's tensors under the names that `DepthSemanticEncoderModel` gives them."""
        return {
            name.removeprefix("encoder."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith("encoder.")
        }


def read_depth_checkpoint(
    path: str | os.PathLike[str], layout: str = "auto", wanted: WeightsWanted | None = None
) -> LegacyDepthCheckpoint:
    """Read any file with a legacy depth network, at any place in it. Of several networks, a warning names the others.

    Args:
        path: the file.
        layout: "auto", or the layout that the file must have.
        wanted: the weights to take.

    Raises:
        CheckpointError: if the file cannot be read.
        LayoutError: if it is another architecture, or keys are missing, left over or of the wrong shape.
    """
    chosen = choose(open_checkpoint(path), OWN_FAMILIES, wanted, [DEPTH])
    if wanted is None and (rivals := [other.path for other in chosen.others if other.family]):
        others = ", ".join(rivals)
        warnings.warn(f"{path}: takes the weights at {chosen.network.path}; there are also {others}", stacklevel=2)
    return recognise_depth(chosen, layout)


def recognise_depth(chosen: ChosenWeights, layout: str = "auto") -> LegacyDepthCheckpoint:
    """Recognise a legacy depth network by the names and shapes of its tensors.

    Args:
        chosen: the weights of a file.
        layout: "auto", or the layout that they must have.

    Raises:
        LayoutError: if it is another architecture, or keys are missing, left over or of the wrong shape.
    """
    path, members = chosen.path, chosen.network.members
    prefixed = any(member.name.startswith(("encoder.", "decoder.")) for member in members)
    weights, source_keys = rename(path, members, lambda name: name if prefixed else f"encoder.{name}")
    found = layout_of(chosen.network) or (AUTOENCODER if any(n.startswith("decoder.") for n in weights) else ENCODER)
    what = f"a {chosen.wrapping}, not" if chosen.wrapping.startswith("pickled") else "not"
    verdict = f"{what} a whole legacy depth network; the closest layout is {found}"
    config, counters = _matching_config(path, weights, source_keys, (found, verdict), chosen.metadata)
    if layout not in ("auto", found):
        raise LayoutError(f"{path}: its layout is {found}, not {layout} (leave --layout out, or correct it)")
    notes = [f"{len(counters)} counters num_batches_tracked are zeros: the file has none"] if counters else []
    return LegacyDepthCheckpoint(
        path=Path(path),
        layout=found,
        wrapping=chosen.wrapping,
        config=config,
        tensors=LazyTensors(path, weights | counters, _whole_counter),
        source_keys=source_keys,
        metadata=chosen.metadata,
        chosen=chosen,
        notes=notes,
    )


def _whole_counter(name: str, tensor: Tensor) -> Tensor:
    """Make BatchNorm's count of batches an integer again, where a whole state dict was cast to half precision.

    No output depends on it. A count that half precision could not hold becomes 0.
    """
    if name.endswith(COUNTER) and tensor.is_floating_point():
        return tensor.float().nan_to_num(0, posinf=0, neginf=0).to(torch.int64)
    return tensor


def _matching_config(
    path: str | os.PathLike[str],
    weights: Mapping[str, Weight],
    source_keys: Mapping[str, str],
    closest: tuple[str, str],
    metadata: Mapping[str, object],
) -> tuple[DepthSemanticEncoderConfig, dict[str, Weight]]:
    """The configuration whose network has exactly these tensors, and the counters that the file lacks.

    Args:
        path: the file, for errors.
        weights: by canonical name.
        source_keys: canonical name → key in the file.
        closest: the layout, and what is said of a file that is not a whole one.
        metadata: what the file says of itself.
    """
    if any(name.removeprefix("encoder.").startswith(TOWERS) for name in weights):
        raise LayoutError(
            f"{path}: a multimodal (BERT + ViT) checkpoint, not a depth network (leave --layout out, or choose another"
            " file)"
        )
    layout, verdict = closest
    shapes = {name: weight.shape for name, weight in weights.items()}
    try:
        config = infer_config(shapes)
        config.image_size = _stated_image_size(metadata) or config.image_size
        expected = _expected_shapes(config, layout)
    except (ArithmeticError, ValueError, RuntimeError):
        # The sizes contradict each other: compare with the network that most of these files hold.
        config = DepthSemanticEncoderConfig()
        expected = _expected_shapes(config, layout)
    counters: dict[str, Weight] = {
        name: TensorWeight(torch.zeros((), dtype=torch.int64))
        for name in expected
        if name.endswith(COUNTER) and name not in weights
    }
    needed = {name: shape for name, shape in expected.items() if name not in counters}
    check_names(path, source_keys, needed, verdict)
    check_shapes(path, shapes, source_keys, needed)
    return config, counters


def _expected_shapes(config: DepthSemanticEncoderConfig, layout: str) -> dict[str, Shape]:
    with torch.device("meta"):
        network = DepthAutoencoderModel(config)
    return {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if layout == AUTOENCODER or name.startswith("encoder.")
    }


def _stated_image_size(metadata: Mapping[str, object]) -> int | None:
    for key in _CONFIGURATIONS:
        stated = as_mapping(metadata.get(key))
        for name in _IMAGE_SIZES:
            size = without_nodes(stated.get(name))
            if type(size) is int and size >= _SMALLEST_SIDE:
                return size
    return None
