"""Writes towers in 8 bits by the static quantisation of NNCF, whose ranges come from real inputs."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..data.location import locate
from ..data.source import open_pictures, open_source
from ..modalities import Modality
from ..models.concurrency import evaluating
from ..models.depth_units import DepthUnits
from ..models.modeling_depth_semantic_encoder import DepthSemanticEncoderModel
from ..models.pixel_towers import DepthTower
from ..models.tower import Encoder, Tower

_ROWS = 300  # half of them give the ranges
# The first convolution of the depth tower stays in float32: 8 bits lose small differences of depth.
_DEPTH_STEM = 1


def calibration_inputs(
    model: Encoder, towers: Sequence[Modality], source: str, units: DepthUnits | None = None
) -> dict[Modality, list[dict[str, Tensor]]]:
    """Collect the first inputs of a data set for each tower that it has inputs for.

    Args:
        model: the towers' model.
        towers: names of towers.
        source: the name of a data set.
        units: what the raw values of depth maps mean.

    Raises:
        ValueError: if it has no inputs for any of the towers.
    """
    inputs: dict[Modality, list[dict[str, Tensor]]] = {}
    refusals = []
    is_of_files = locate(source).kind == "pictures"
    for tower in [open_pictures(model, source, None).modality] if is_of_files else towers:
        try:
            opened = open_source(source, tower)
        except ValueError as error:
            refusals.append(str(error))
            continue
        rows = opened.dataset.select(range(min(_ROWS, len(opened.dataset))))
        preparing = model.tower(tower)
        if units and isinstance(preparing, DepthTower):
            preparing = preparing.with_units(units)
        inputs[tower] = [_prepare(preparing, item) for item in rows[opened.column]]
    if not inputs:
        raise ValueError("; ".join(refusals))
    return inputs


@torch.no_grad()
def with_even_channels(tower: Tower, inputs: Sequence[Mapping[str, Tensor]]) -> Tower:
    """Copy a depth tower and its model so that it loses less in 8 bits, and computes the same in float32.

    The channels that reach the second convolution share one range in 8 bits, but their own ranges differ by ten times.
    Each channel is divided by the square root of its range over the largest range. The weights of the convolution are
    multiplied by the same factor. SmoothQuant (Xiao et al., 2023) balances activations and weights so.

    Args:
        tower: the tower of depth maps.
        inputs: prepared maps; their activations give the ranges.
    """
    tower = copy.deepcopy(tower)
    (encoder,) = (module for module in tower.model.modules() if isinstance(module, DepthSemanticEncoderModel))
    stem = encoder.stem
    norm, convolution = cast(nn.BatchNorm2d, stem[1]), cast(nn.Conv2d, stem[3])
    with evaluating(tower.model):
        largest = torch.stack([stem[:3](batch["pixel_values"]).amax((0, 2, 3)) for batch in inputs]).amax(0)
    factors = torch.where(largest > 0, largest / largest.max(), 1).sqrt()
    norm.weight.div_(factors)
    norm.bias.div_(factors)
    convolution.weight.mul_(factors[:, None, None])
    return tower


def save_int8(backend: str, tower: str, exact: Path, path: Path, inputs: list[dict[str, Tensor]]) -> Path:
    """Quantise a compiled tower: weights symmetrically, activations from their least to their largest value.

    Args:
        backend: "onnx" or "openvino".
        tower: "text", "image" or "depth".
        exact: the file of the tower in float32.
        path: the file to write.
        inputs: prepared inputs; their activations give the ranges.
    """
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    if backend == "openvino":
        import openvino

        graph = openvino.Core().read_model(exact)
        convolutions = [op.get_friendly_name() for op in graph.get_ordered_ops() if op.get_type_name() == "Convolution"]
    else:
        import onnx

        graph = onnx.load(exact)
        convolutions = [node.name for node in graph.graph.node if node.op_type == "Conv"]
    parameters = nncf.AdvancedQuantizationParameters(
        # NNCF's default takes the mean of the ranges, which cuts off extremes. Its bias correction made results worse.
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        disable_bias_correction=True,
    )
    quantized = nncf.quantize(
        graph,
        nncf.Dataset(inputs, lambda batch: {name: tensor.numpy() for name, tensor in batch.items()}),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(names=convolutions[:_DEPTH_STEM]) if tower == "depth" else None,
        advanced_parameters=parameters,
    )
    if backend == "openvino":
        openvino.save_model(quantized, path)
    else:
        onnx.save(quantized, path)
    return path


def _prepare(tower: Tower, item: object) -> dict[str, Tensor]:
    """The tensors [1, ...] of one item, as a program takes them."""
    batch = tower.prepare([item])
    return {name: batch[name] for name in tower.input_names}
