"""Writes towers in 8 bits by the static quantisation of NNCF, whose ranges come from real inputs."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.utils import logging

from ..data.cells import picture_items
from ..data.location import locate
from ..data.source import Source, open_pictures, open_source
from ..modalities import Modality
from ..models.concurrency import evaluating
from ..models.depth_units import DepthUnits
from ..models.modeling_depth_semantic_encoder import DepthSemanticEncoderModel
from ..models.pixel_towers import DepthTower
from ..models.tower import Encoder, Tower
from ..progress import quiet_tracing
from .programs import Traced

logger = logging.get_logger(__name__)

_ROWS = 300  # of each tower; half of them give the ranges
# What data sets for evaluation call their columns; it decides where several columns hold texts.
_USUAL_COLUMNS: Mapping[Modality, str] = {"text": "caption", "image": "image", "depth": "depth"}
# The first convolution of the depth tower stays in float32: 8 bits lose small differences of depth.
_DEPTH_STEM = 1


def calibration_inputs(
    model: Encoder, towers: Sequence[Modality], sources: Sequence[str], units: DepthUnits | None = None
) -> dict[Modality, list[dict[str, Tensor]]]:
    """Collect the first inputs of data sets for each tower that they have inputs for; a warning names the others.

    Args:
        model: the towers' model.
        towers: names of towers.
        sources: names of data sets; a tower takes the first that has inputs for it.
        units: what the raw values of depth maps mean.

    Raises:
        ValueError: if they have no inputs for any of the towers, or one of them has none.
    """
    inputs: dict[Modality, list[dict[str, Tensor]]] = {}
    refusals: dict[Modality, list[str]] = {tower: [] for tower in towers}
    for source in sources:
        is_of_files = locate(source).kind == "pictures"
        reasons: list[str] = []
        used = False
        for tower in [open_pictures(model, source, None).modality] if is_of_files else towers:
            try:
                opened = _open(source, tower)
            except ValueError as error:
                reasons.append(str(error))
                refusals.setdefault(tower, []).append(str(error))
                continue
            used = True
            if tower in towers and tower not in inputs:
                inputs[tower] = _prepared(model.tower(tower), opened, units)
                if opened.left_out:
                    logger.warning("%s", opened.left_out)
        if not used:
            raise ValueError("; ".join(reasons))
    if not inputs:
        raise ValueError(f"{', '.join(sources)}: no inputs for {' and '.join(towers)}")
    for tower in towers:
        if tower not in inputs:
            reason = "; ".join(refusals[tower]) or f"{', '.join(sources)}: no {tower} inputs"
            logger.warning("%s: not written in int8 (%s)", tower, reason)
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


def in_int8(backend: str, tower: Modality, exact: Traced, inputs: list[dict[str, Tensor]]) -> Traced:
    """Quantise a program: weights symmetrically, activations from their least to their largest value.

    NNCF moves the ranges of activations into weights (SmoothQuant), and leaves attention's softmax as it is. Without
    that a ViT's embeddings of different pictures become alike. Networks of convolutions lose nothing by it.

    Args:
        backend: "onnx" or "openvino".
        tower: "text", "image" or "depth".
        exact: the program in float32.
        inputs: prepared inputs; their activations give the ranges.
    """
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    from transformers.exporters import (
        ExportedComponent,
        ExportFormat,
        NNCFOnnxQuantizer,
        NNCFOpenVINOQuantizer,
        NNCFQuantizationConfig,
    )

    program = exact.component.program
    convolutions = _convolutions(backend, program)
    parameters = nncf.AdvancedQuantizationParameters(
        # NNCF's default takes the mean of the ranges, which cuts off extremes. Its bias correction made results worse.
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        disable_bias_correction=True,
    )
    config = NNCFQuantizationConfig(
        preset=nncf.QuantizationPreset.MIXED, subset_size=len(inputs), advanced_parameters=parameters
    )
    if tower == "depth":
        config.ignored_scope = nncf.IgnoredScope(names=convolutions[:_DEPTH_STEM])
        parameters.smooth_quant_alphas = nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)  # neither
    quantizer = {"onnx": NNCFOnnxQuantizer, "openvino": NNCFOpenVINOQuantizer}[backend](config, inputs)
    with quiet_tracing(shows_bars=True):
        quantized = quantizer.quantize(program, inputs[0], ExportFormat(backend))
    return Traced(ExportedComponent(quantized, exact.component.metadata), exact.network)


def _convolutions(backend: str, program: Any) -> list[str]:  # an onnx_ir.Model or an openvino.Model
    """The names of a program's convolutions, in the order in which they are computed."""
    if backend == "onnx":
        return [node.name or "" for node in program.graph if node.op_type == "Conv"]
    operations = program.get_ordered_ops()
    return [each.get_friendly_name() for each in operations if each.get_type_name() == "Convolution"]


def _open(source: str, tower: Modality) -> Source:
    usual = _USUAL_COLUMNS[tower]
    try:
        opened = open_source(source, tower, column_option=f"it by the name {usual!r}")
    except ValueError as error:
        with suppress(ValueError):
            return open_source(source, tower, usual)
        raise error
    if tower != "text" and _holds_words(opened):
        raise ValueError(f"{source}: which column holds the {tower}s? The texts of {opened.column!r} name no files")
    return opened


def _holds_words(opened: Source) -> bool:
    """Whether a column that was taken for paths of pictures is one of texts: its first names no file."""
    feature = opened.dataset.features[opened.column]
    if getattr(feature, "dtype", "") not in ("string", "large_string") or not len(opened.dataset):
        return False
    return not Path(opened.dataset[0][opened.column]).is_file()


def _prepared(tower: Tower, opened: Source, units: DepthUnits | None) -> list[dict[str, Tensor]]:
    """The tensors [1, ...] of each of the first inputs, as a program takes them.

    Raises:
        ValueError: if there are none, or one cannot be used.
    """
    rows = opened.dataset.select(range(min(_ROWS, len(opened.dataset))))
    if not len(rows):
        raise ValueError(f"{opened.name}: has no rows, and 8 bits need the ranges of real inputs")
    if units and isinstance(tower, DepthTower):
        tower = tower.with_units(units)
    items = rows[opened.column] if opened.modality == "text" else picture_items(rows, opened.column)
    with opened.named():
        return [tower.check_compiled(tower.prepare([item], index)) for index, item in enumerate(items)]
