"""Builds the depth autoencoder to train: new, from a repo, or from a legacy checkpoint."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from ...checkpoints.state_dicts import check_values
from ...conversion.families.legacy.depth_layouts import AUTOENCODER, read_depth_checkpoint
from ...models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ...models.image_processing_depth import DepthImageProcessor
from ...models.modeling_depth_autoencoder import DepthAutoencoderModel
from ...models.repo_code import installed_config
from ..depth_units import with_units
from ..option_parser import as_mapping
from .arguments import DepthModelArguments


def build_autoencoder(options: DepthModelArguments) -> DepthAutoencoderModel:
    """Build the autoencoder with its processor, on the CPU, in float32.

    The decoder is new where the source has none.

    Raises:
        ValueError, OSError: if the source is no depth network, or the settings do not fit it or each other.
    """
    fields = as_mapping("model_config", options.model_config)
    known = {*DepthSemanticEncoderConfig().to_dict(), *DepthSemanticEncoderConfig.attribute_map}
    _check_known("model_config", fields, known)
    if not options.init_from:
        model = DepthAutoencoderModel(DepthSemanticEncoderConfig(**fields))
    elif Path(options.init_from).is_file():
        model = _from_legacy(options.init_from, fields)
    else:
        model = _from_repo(options.init_from, fields)
    processor = _processor(model, as_mapping("depth_processor", options.depth_processor))
    model.processor = with_units(processor, options)
    model.config.name_or_path = ""  # a path on this machine means nothing elsewhere
    return model


def _from_legacy(path: str, fields: dict[str, Any]) -> DepthAutoencoderModel:
    checkpoint = read_depth_checkpoint(path)
    check_values(checkpoint.path, checkpoint.tensors)
    model = DepthAutoencoderModel(DepthSemanticEncoderConfig(**checkpoint.config.to_dict() | fields))
    try:
        model.load_state_dict(checkpoint.tensors, strict=checkpoint.layout == AUTOENCODER)
    except RuntimeError as error:  # the file fits its own configuration
        raise ValueError(f"{path}: --model_config asks for other sizes than the file has") from error
    return model


def _from_repo(source: str, fields: dict[str, Any]) -> DepthAutoencoderModel:
    config = installed_config(source)
    if not isinstance(config, DepthSemanticEncoderConfig):
        raise ValueError(f"{source}: a {config.model_type} model, expected {DepthSemanticEncoderConfig.model_type}")
    config = DepthSemanticEncoderConfig.from_pretrained(source, **fields)
    loaded = DepthAutoencoderModel.from_pretrained(source, config=config, dtype=torch.float32, output_loading_info=True)
    model, info = cast(tuple[DepthAutoencoderModel, Mapping[str, Iterable[str]]], loaded)
    missing = sorted(name for name in info["missing_keys"] if name.startswith("encoder."))
    if missing:
        raise ValueError(f"{source}: its weights lack {missing[0]!r}")
    return model


def _processor(model: DepthAutoencoderModel, settings: dict[str, Any]) -> DepthImageProcessor:
    present = model.processor.to_dict()
    _check_known("depth_processor", settings, set(present))
    processor = DepthImageProcessor(**present | settings)
    side, channels = model.config.reconstruction_size, model.config.num_channels
    drawn = [channels, side, side]
    prepared = [processor.num_channels, processor.size.height, processor.size.width]
    if prepared != drawn:
        raise ValueError(
            f"the processor makes maps of {prepared} (channels, height, width), this network draws {drawn}: set"
            " image_size in --model_config, or size in --depth_processor"
        )
    return processor


def _check_known(option: str, given: Iterable[str], known: set[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(f"--{option}: there is no {', '.join(unknown)}")
