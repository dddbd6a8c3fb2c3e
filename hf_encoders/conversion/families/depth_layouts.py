"""Recognises a legacy depth checkpoint in any wrapping, and infers its configuration from the shapes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from ...checkpoints.files import read_checkpoint
from ...checkpoints.state_dicts import (
    COUNTER,
    TOWERS,
    LayoutError,
    Shape,
    check_names,
    check_shapes,
    other_content,
    rename,
    strip_wrappers,
    unwrap,
)
from ...models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ...models.modeling_depth_autoencoder import DepthAutoencoderModel

AUTOENCODER, ENCODER = "depth-autoencoder", "depth-encoder"
LAYOUTS = (AUTOENCODER, ENCODER)
MODEL_TYPE = "EnhancedResNet50Encoder"  # the encoder's name in legacy files

# Key that holds the state dict → name of the wrapping.
_WRAPPINGS = {"model_state_dict": "training checkpoint", "encoder_state_dict": "extracted encoder"}
_SMALLEST_SIDE = 32  # pixels; the encoder takes no smaller map


@dataclass(frozen=True)
class LegacyDepthCheckpoint:
    """A legacy depth checkpoint, read and recognised.

    Args:
        path: where it was read from.
        layout: "depth-autoencoder" or "depth-encoder".
        wrapping: how the file holds the state dict: "training checkpoint", "extracted encoder" or "bare state dict".
        config: inferred from the shapes.
        tensors: by canonical name: `encoder.` or `decoder.` and the legacy name.
        source_keys: canonical name → key in the file.
        metadata: the file's other entries (epoch, loss, history, configuration), without optimizer states.
    """

    path: Path
    layout: str
    wrapping: str
    config: DepthSemanticEncoderConfig
    tensors: dict[str, Tensor]
    source_keys: dict[str, str]
    metadata: dict[str, object]

    def encoder_tensors(self) -> dict[str, Tensor]:
        """The encoder's tensors under the names that `DepthSemanticEncoderModel` gives them."""
        return {
            name.removeprefix("encoder."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith("encoder.")
        }


def read_depth_checkpoint(path: str | os.PathLike[str], layout: str = "auto") -> LegacyDepthCheckpoint:
    """Read any legacy depth file: training checkpoint, bare state dict, extracted encoder.

    Args:
        path: the file.
        layout: "auto", or the layout that the file must have.

    Raises:
        CheckpointError: if the file cannot be read.
        LayoutError: if it is another architecture, or keys are missing, left over or of the wrong shape.
    """
    return recognise_depth(path, read_checkpoint(path), layout)


def recognise_depth(
    path: str | os.PathLike[str], content: Mapping[str, object], layout: str = "auto"
) -> LegacyDepthCheckpoint:
    """Recognise a legacy depth file by its content, which `read_checkpoint` has read.

    Args:
        path: the file, for messages and the report.
        content: the dictionary in the file.
        layout: "auto", or the layout that the file must have.

    Raises:
        LayoutError: if it is another architecture, or keys are missing, left over or of the wrong shape.
    """
    wrapping, state_dict = unwrap(path, content, _WRAPPINGS)
    tensors, source_keys = _canonical_names(path, state_dict)
    found = AUTOENCODER if any(name.startswith("decoder.") for name in tensors) else ENCODER
    config = _matching_config(path, tensors, source_keys, found, content)
    if layout not in ("auto", found):
        raise LayoutError(f"{path}: its layout is {found}, not {layout} (leave --layout out, or correct it)")
    metadata = other_content(content, wrapping, _WRAPPINGS)
    return LegacyDepthCheckpoint(Path(path), found, wrapping, config, tensors, source_keys, metadata)


def _canonical_names(
    path: str | os.PathLike[str], state_dict: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    prefixed = any(strip_wrappers(key).startswith(("encoder.", "decoder.")) for key in state_dict)
    tensors, source_keys = rename(path, state_dict, lambda name: name if prefixed else f"encoder.{name}")
    return {
        name: _whole_counter(tensor) if name.endswith(COUNTER) else tensor for name, tensor in tensors.items()
    }, source_keys


def _whole_counter(tensor: Tensor) -> Tensor:
    """Make BatchNorm's count of batches an integer again, where a whole state dict was cast to half precision.

    No output depends on it. A count that half precision could not hold becomes 0.
    """
    if tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta:
        return tensor.float().nan_to_num(0, posinf=0, neginf=0).to(torch.int64)
    return tensor


def _matching_config(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    source_keys: Mapping[str, str],
    layout: str,
    content: Mapping[str, object],
) -> DepthSemanticEncoderConfig:
    """The configuration whose network has exactly these tensors."""
    if any(name.removeprefix("encoder.").startswith(TOWERS) for name in tensors):
        raise LayoutError(
            f"{path}: a multimodal (BERT + ViT) checkpoint, not a depth network (leave --layout out, or choose another"
            " file)"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        config = infer_config(shapes)
        config.image_size = _stated_image_size(content) or config.image_size
    except (LookupError, ArithmeticError, ValueError):
        # The shapes tell nothing: compare with the network that most of these files hold.
        config = DepthSemanticEncoderConfig()
    expected = _expected_shapes(config, layout)

    check_names(path, source_keys, expected, f"not a whole legacy depth network; the closest layout is {layout}")
    check_shapes(path, shapes, source_keys, expected)
    return config


def infer_config(shapes: Mapping[str, Shape]) -> DepthSemanticEncoderConfig:
    """Infer every width and depth from the shapes of a legacy network's tensors, by canonical name.

    Raises:
        LookupError, ArithmeticError, ValueError: if a tensor that tells a width is missing or makes no sense.
    """
    layers = [f"encoder.layer{number}" for number in (1, 2, 3, 4)]
    hidden_sizes = [shapes[f"{layer}.0.conv3.weight"][0] for layer in layers]
    top, fusion = hidden_sizes[-1], shapes["encoder.multiscale_fusion.0.weight"][0]
    wide, features = shapes["encoder.fc.0.weight"]
    config = {
        "num_channels": shapes["encoder.stem.0.weight"][1],
        "stem_sizes": [shapes["encoder.stem.0.weight"][0], shapes["encoder.stem.3.weight"][0]],
        "hidden_sizes": hidden_sizes,
        "depths": [_count(shapes, f"{layer}.{{}}.conv1.weight") for layer in layers],
        "bottleneck_expansion": top // shapes["encoder.layer4.0.conv1.weight"][0],
        "gate_reduction": _reduction(shapes["encoder.attention3.channel_attention.1.weight"]),
        "se_reduction": _reduction(shapes["encoder.se_block.fc.0.weight"]),
        "enhance_size": shapes["encoder.depth_enhance.0.weight"][0],
        "fusion_size": fusion,
        "pool_grid": isqrt((features - top) // (top + fusion)),
        "fc_sizes": [wide, shapes["encoder.fc.3.weight"][0]],
        "hidden_size": shapes["encoder.fc.6.weight"][0],
    }
    if any(name.startswith("decoder.") for name in shapes):
        blocks = _count(shapes, "decoder.decoder_blocks.{}.conv_block.0.weight")
        config |= {
            "decoder_global_size": shapes["decoder.global_fc.0.weight"][0],
            "decoder_spatial_size": shapes["decoder.spatial_fc.0.weight"][0],
            "decoder_fusion_size": shapes["decoder.spatial_fusion.0.weight"][0],
            "decoder_hidden_sizes": [
                shapes[f"decoder.decoder_blocks.{i}.conv_block.0.weight"][0] for i in range(blocks)
            ],
            "decoder_gated_blocks": _count(shapes, "decoder.decoder_blocks.{}.attention.gamma"),
            "decoder_se_reduction": _reduction(shapes["decoder.decoder_blocks.0.se.fc.0.weight"]),
            "decoder_head_sizes": [shapes[f"decoder.final_conv.{i}.weight"][0] for i in (0, 5, 7)],
        }
    return DepthSemanticEncoderConfig.from_dict(config)


def _expected_shapes(config: DepthSemanticEncoderConfig, layout: str) -> dict[str, Shape]:
    with torch.device("meta"):
        network = DepthAutoencoderModel(config)
    return {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if layout == AUTOENCODER or name.startswith("encoder.")
    }


def _stated_image_size(content: Mapping[str, object]) -> int | None:
    stated = content.get("config")
    size = stated.get("image_size") if isinstance(stated, Mapping) else None
    return size if isinstance(size, int) and size >= _SMALLEST_SIDE else None


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    number = 0
    while pattern.format(number) in shapes:
        number += 1
    return number


def _reduction(shape: Shape) -> int:
    """Channels divided by inner channels of a squeezing layer's weight [inner, channels, ...]."""
    return shape[1] // shape[0]
