"""The sizes of a legacy depth network from the shapes of its tensors, of which some may be missing."""

from collections.abc import Mapping
from math import isqrt

from ....checkpoints.state_dicts import Shape
from ....models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from .known_shapes import KnownShapes


def infer_config(shapes: Mapping[str, Shape]) -> DepthSemanticEncoderConfig:
    """Infer every width and depth from the shapes of a legacy network's tensors, by canonical name.

    A size that nothing tells is the legacy network's.

    Raises:
        ValueError, ArithmeticError: if the sizes make no sense.
    """
    read = KnownShapes(shapes)
    layers = [f"encoder.layer{number}" for number in (1, 2, 3, 4)]
    hidden_sizes = [read.in_blocks(layer, "conv3.weight", "bn3.weight", "bn3.bias") for layer in layers]
    top, fusion = hidden_sizes[-1], read.first("encoder.multiscale_fusion.0.weight", "encoder.multiscale_fusion.1.bias")
    inner = read.in_blocks(layers[-1], "conv1.weight", "bn1.weight")
    features = read("encoder.fc.0.weight", 1)
    config: dict[str, int | list[int]] = {
        "num_channels": read("encoder.stem.0.weight", 1),
        "stem_sizes": [
            read.first("encoder.stem.0.weight", "encoder.stem.1.weight"),
            read.first("encoder.stem.3.weight", "encoder.stem.4.weight"),
        ],
        "hidden_sizes": hidden_sizes,
        "depths": [len(read.blocks(layer)) for layer in layers],
        "bottleneck_expansion": top // inner if inner else 0,
        "gate_reduction": read.reduction(*(f"encoder.attention{n}.channel_attention.1.weight" for n in (3, 2, 1))),
        "se_reduction": read.reduction("encoder.se_block.fc.0.weight"),
        "enhance_size": read.first("encoder.depth_enhance.0.weight", "encoder.depth_enhance.1.weight"),
        "fusion_size": fusion,
        "pool_grid": isqrt(max(features - top, 0) // (top + fusion)) if features and top + fusion else 0,
        "fc_sizes": [
            read.first("encoder.fc.0.weight", "encoder.fc.0.bias"),
            read.first("encoder.fc.3.weight", "encoder.fc.3.bias"),
        ],
        "hidden_size": read.first("encoder.fc.6.weight", "encoder.fc.6.bias"),
    }
    if any(name.startswith("decoder.") for name in shapes):
        config |= _decoder_sizes(read)
    return DepthSemanticEncoderConfig.from_dict(_with_defaults(config))


def _decoder_sizes(read: KnownShapes) -> dict[str, int | list[int]]:
    blocks = "decoder.decoder_blocks"
    widths = [
        read.first(f"{blocks}.{n}.conv_block.0.weight", f"{blocks}.{n}.conv_block.1.weight")
        for n in read.blocks(blocks)
    ]
    sizes: dict[str, int | list[int]] = {
        "decoder_global_size": read.first("decoder.global_fc.0.weight", "decoder.global_fc.0.bias"),
        "decoder_spatial_size": read.first("decoder.spatial_fc.0.weight", "decoder.spatial_fc.0.bias"),
        "decoder_fusion_size": read.first("decoder.spatial_fusion.0.weight", "decoder.spatial_fusion.1.weight"),
        "decoder_hidden_sizes": widths,
        "decoder_se_reduction": read.reduction(*(f"{blocks}.{n}.se.fc.0.weight" for n in read.blocks(blocks))),
        "decoder_head_sizes": [
            read.first(f"decoder.final_conv.{n}.weight", f"decoder.final_conv.{n}.bias") for n in (0, 5, 7)
        ],
    }
    # Zero gates are as good as any number.
    return sizes | ({"decoder_gated_blocks": len(read.blocks(blocks, "attention."))} if widths else {})


def _with_defaults(config: Mapping[str, int | list[int]]) -> dict[str, int | list[int]]:
    """The sizes without those that nothing tells; in lists, the legacy network's in their place."""
    defaults = DepthSemanticEncoderConfig()
    known: dict[str, int | list[int]] = {}
    for name, size in config.items():
        if isinstance(size, list):
            usual = getattr(defaults, name)
            if size:
                known[name] = [n or usual[min(place, len(usual) - 1)] for place, n in enumerate(size)]
        elif size or name == "decoder_gated_blocks":
            known[name] = size
    return known
