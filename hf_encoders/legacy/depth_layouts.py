"""Recognises a legacy depth checkpoint, however it was wrapped, and infers the configuration from its shapes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.modeling_depth_autoencoder import DepthAutoencoderModel
from .checkpoint_files import CheckpointError, read_checkpoint

AUTOENCODER, ENCODER = "depth-autoencoder", "depth-encoder"
LAYOUTS = (AUTOENCODER, ENCODER)
MODEL_TYPE = "EnhancedResNet50Encoder"  # what the legacy files call the encoder

# What wraps the state dict, by the key that holds it.
_WRAPPINGS = {"model_state_dict": "training checkpoint", "encoder_state_dict": "extracted encoder"}
# nn.DataParallel, DDP and torch.compile put these in front of whatever they wrap, a sub-module included.
_WRAPPER_NAMES = {"module", "_orig_mod"}
_STATE = {"optimizer_state_dict", "scheduler_state_dict"}
_COUNTER = "num_batches_tracked"
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_SMALLEST_SIDE = 32  # pixels that the encoder needs


class LayoutError(CheckpointError):
    """A checkpoint that is none of the legacy layouts, or not a whole one."""


@dataclass(frozen=True)
class LegacyDepthCheckpoint:
    """A legacy depth checkpoint, read and recognised.

    Args:
        path: where it was read from.
        layout: "depth-autoencoder" or "depth-encoder".
        wrapping: how the file holds the state dict: "training checkpoint", "extracted encoder" or "bare state dict".
        config: inferred from the shapes.
        tensors: by canonical name: `encoder.` or `decoder.` and the legacy name.
        source_keys: canonical name → the key in the file.
        metadata: what else the file says (epoch, loss, history, configuration), without optimizer states.
    """

    path: Path
    layout: str
    wrapping: str
    config: DepthSemanticEncoderConfig
    tensors: dict[str, Tensor]
    source_keys: dict[str, str]
    metadata: dict[str, Any]

    def encoder_tensors(self) -> dict[str, Tensor]:
        """The encoder's tensors under the names that `DepthSemanticEncoderModel` gives them."""
        return {
            name.removeprefix("encoder."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith("encoder.")
        }


def read_depth_checkpoint(path: str | os.PathLike[str], layout: str = "auto") -> LegacyDepthCheckpoint:
    """Read any legacy depth file: training checkpoint, bare state dict, extracted encoder; see `read_checkpoint`.

    Args:
        path: the file.
        layout: "auto", or the layout that the file must have.

    Raises:
        CheckpointError: if the file cannot be read.
        LayoutError: if it is another architecture, or keys are missing, left over or of the wrong shape.
    """
    content = read_checkpoint(path)
    wrapping, state_dict = _unwrap(path, content)
    tensors, source_keys = _canonical_names(path, state_dict)
    found = AUTOENCODER if any(name.startswith("decoder.") for name in tensors) else ENCODER
    config = _matching_config(path, tensors, source_keys, found, content)
    if layout not in ("auto", found):
        raise LayoutError(f"{path}: its layout is {found}, not {layout} (leave --layout out, or correct it)")
    metadata = {
        key: value
        for key, value in content.items()
        if wrapping != "bare state dict" and key not in {*_WRAPPINGS, *_STATE}
    }
    return LegacyDepthCheckpoint(Path(path), found, wrapping, config, tensors, source_keys, metadata)


def check_values(path: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that no weights can be.

    Raises:
        LayoutError: naming the first tensor that holds NaN or infinity, or has another type than it must.
    """
    for name, tensor in tensors.items():
        counter = name.endswith(_COUNTER)
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise LayoutError(f"{path}: {name} is a sparse, quantised or empty tensor, expected a dense one")
        if tensor.is_complex() if counter else tensor.dtype not in _FLOATS:
            expected = "an integer" if counter else "floating-point numbers"
            raise LayoutError(f"{path}: {name} holds {str(tensor.dtype).removeprefix('torch.')}, expected {expected}")
        if not counter and not tensor.isfinite().all():
            raise LayoutError(
                f"{path}: {name} holds NaN or infinity; choose a checkpoint from before training diverged"
            )


def _unwrap(path: Any, content: Mapping[str, Any]) -> tuple[str, dict[str, Tensor]]:
    container = next((key for key in _WRAPPINGS if key in content), None)
    inner, wrapping = (content, "bare state dict") if container is None else (content[container], _WRAPPINGS[container])
    tensors = inner if isinstance(inner, Mapping) else {}
    others = [str(key) for key, value in tensors.items() if not isinstance(value, Tensor) or not isinstance(key, str)]
    if not tensors or len(others) == len(tensors):
        keys = ", ".join(repr(str(key)) for key in list(content)[:5]) or "nothing"
        raise LayoutError(f"{path}: holds no state dict; at its top are {keys} (expected {' or '.join(_WRAPPINGS)})")
    if others:
        raise LayoutError(f"{path}: {others[0]!r} in the state dict is not a tensor")
    return wrapping, dict(tensors)


def _canonical_names(path: Any, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    source_keys: dict[str, str] = {}
    clean = {key: ".".join(part for part in key.split(".") if part not in _WRAPPER_NAMES) for key in state_dict}
    prefixed = any(name.startswith(("encoder.", "decoder.")) for name in clean.values())
    for key, tensor in state_dict.items():
        name = clean[key] if prefixed else f"encoder.{clean[key]}"
        if name in tensors:
            raise LayoutError(f"{path}: {key!r} and {source_keys[name]!r} are the same parameter twice")
        tensors[name] = _whole_counter(tensor) if name.endswith(_COUNTER) else tensor.detach()
        source_keys[name] = key
    return tensors, source_keys


def _whole_counter(tensor: Tensor) -> Tensor:
    """BatchNorm's count of batches as an integer again, where a whole state dict was cast to half precision.

    No output depends on it; what half precision could not hold becomes 0.
    """
    if tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta:
        return tensor.float().nan_to_num(0, posinf=0, neginf=0).to(torch.int64)
    return tensor


def _matching_config(
    path: Any, tensors: Mapping[str, Tensor], source_keys: Mapping[str, str], layout: str, content: Mapping[str, Any]
) -> DepthSemanticEncoderConfig:
    """The configuration whose network has exactly these tensors."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        config = infer_config(shapes)
        config.image_size = _stated_image_size(content) or config.image_size
    except (LookupError, ArithmeticError, ValueError):
        # Nothing to infer from: compare with the network that most of these files hold.
        config = DepthSemanticEncoderConfig()
    expected = _expected_shapes(config, layout)

    missing = [name for name in expected if name not in shapes]
    unexpected = [source_keys[name] for name in shapes if name not in expected]
    if missing or unexpected:
        if any(name.removeprefix("encoder.").startswith(("text_encoder.", "visual_encoder.")) for name in shapes):
            raise LayoutError(
                f"{path}: a multimodal (BERT + ViT) checkpoint; this command converts depth encoders only"
            )
        matching = len(expected) - len(missing)
        raise LayoutError(
            f"{path}: not a whole legacy depth network; the closest layout is {layout} ({matching} of {len(expected)}"
            f" keys match): {_list('missing', missing)}{'; ' if missing and unexpected else ''}"
            f"{_list('unexpected', unexpected)}"
        )
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise LayoutError(
                f"{path}: {source_keys[name]!r} has shape {list(shapes[name])}, expected {list(shape)} beside the other"
                " weights"
            )
    return config


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> DepthSemanticEncoderConfig:
    """Infer every width and depth from the shapes of a legacy network's tensors, by canonical name.

    Raises:
        LookupError, ArithmeticError, ValueError: if a tensor that tells a width is not there, or tells nonsense.
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
    return DepthSemanticEncoderConfig(**config)


def _expected_shapes(config: DepthSemanticEncoderConfig, layout: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = DepthAutoencoderModel(config)
    return {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if layout == AUTOENCODER or name.startswith("encoder.")
    }


def _stated_image_size(content: Mapping[str, Any]) -> int | None:
    stated = content.get("config")
    size = stated.get("image_size") if isinstance(stated, Mapping) else None
    return size if isinstance(size, int) and size >= _SMALLEST_SIDE else None


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    number = 0
    while pattern.format(number) in shapes:
        number += 1
    return number


def _reduction(shape: tuple[int, ...]) -> int:
    """Channels divided by inner channels of a squeezing layer's weight [inner, channels, ...]."""
    return shape[1] // shape[0]


def _list(what: str, names: list[str], most: int = 3) -> str:
    if not names:
        return ""
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{what} {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")
