"""The sizes of BERT and ViT from the shapes of their tensors; those that can be read, where some are missing."""

from collections.abc import Mapping
from math import isqrt

from ....checkpoints.state_dicts import Shape
from .known_shapes import KnownShapes

_TEXT, _VISION = "text_encoder", "visual_encoder"
_PATCHES = f"{_VISION}.embeddings.patch_embeddings.projection.weight"


def text_sizes(shapes: Mapping[str, Shape]) -> dict[str, int]:
    """BERT's sizes by the names of its configuration, without those that nothing tells."""
    read = KnownShapes(shapes)
    embeddings = f"{_TEXT}.embeddings"
    words, positions, types = (f"{embeddings}.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
    norm = read.first(f"{embeddings}.LayerNorm.weight", f"{embeddings}.LayerNorm.bias")
    sizes = {
        "hidden_size": read(words, 1) or read(positions, 1) or read(types, 1) or norm,
        "vocab_size": read(words),
        "max_position_embeddings": read(positions),
        "type_vocab_size": read(types),
    }
    return _known(sizes | _layer_sizes(read, f"{_TEXT}.encoder.layer"))


def vision_sizes(shapes: Mapping[str, Shape]) -> dict[str, int]:
    """ViT's sizes by the names of its configuration, without those that nothing tells."""
    read = KnownShapes(shapes)
    patch_size, positions = read(_PATCHES, 2), read(f"{_VISION}.embeddings.position_embeddings", 1)
    norm = read.first(f"{_VISION}.layernorm.weight", f"{_VISION}.layernorm.bias")
    sizes = {
        "hidden_size": read(_PATCHES) or read(f"{_VISION}.embeddings.cls_token", 2) or norm,
        "num_channels": read(_PATCHES, 1),
        "patch_size": patch_size,
        "image_size": patch_size * isqrt(max(positions - 1, 0)),
    }
    return _known(sizes | _layer_sizes(read, f"{_VISION}.encoder.layer"))


def _layer_sizes(read: KnownShapes, layers: str) -> dict[str, int]:
    """The number of layers, whatever their numbers: one that is missing among them is then reported by name."""
    return {
        "num_hidden_layers": max(1, len(read.blocks(layers))),
        "intermediate_size": read.in_blocks(layers, "intermediate.dense.weight", "intermediate.dense.bias"),
    }


def _known(sizes: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if size}
