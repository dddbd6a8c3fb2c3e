"""Towers in 8 bits: static quantisation by NNCF, with the ranges of real inputs."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backends.programs import input_names
from ..data.source import open_source
from ..modalities import default_modality
from ..models.evaluation_mode import evaluating
from ..models.image_files import read_images

_ROWS = 300  # of which half give the ranges
# The first convolution of the depth tower stays as it is: 8 bits lose what small differences of depth mean.
_DEPTH_STEM = 1


def calibration_inputs(model: Any, towers: Sequence[str], source: str) -> dict[str, list[dict[str, Tensor]]]:
    """Tower → the first inputs of a data set, one by one, for the towers that it has inputs for.

    Raises:
        ValueError: if it has none for any of them.
    """
    inputs: dict[str, list[dict[str, Tensor]]] = {}
    refusals = []
    # A folder of files does not say what they are.
    for tower in [default_modality(model)] if Path(source).is_dir() else towers:
        try:
            opened = open_source(source, tower)
        except ValueError as error:
            refusals.append(str(error))
            continue
        rows = opened.dataset.select(range(min(_ROWS, len(opened.dataset))))
        inputs[tower] = [_prepare(model, tower, item) for item in rows[opened.column]]
    if not inputs:
        raise ValueError("; ".join(refusals))
    return inputs


@torch.no_grad()
def with_even_channels(model: Any, inputs: Sequence[dict[str, Tensor]]) -> Any:
    """A copy of a depth encoder, or of a model with one, that computes the same and loses less in 8 bits.

    The channels that reach the second convolution have one range in 8 bits, but differ by ten times in how far they go.
    Each is divided by the root of its share of the largest, and the convolution's weights are multiplied by it, after
    the balance between activations and weights of SmoothQuant (Xiao et al., 2023). Only rounding differs.

    Args:
        model: the encoder.
        inputs: of the tower, that give the ranges.
    """
    model = copy.deepcopy(model)
    stem = getattr(model, "depth_encoder", model).stem
    norm, convolution = stem[1], stem[3]
    with evaluating(model):
        most = torch.stack([stem[:3](batch["pixel_values"]).amax((0, 2, 3)) for batch in inputs]).amax(0)
    factors = torch.where(most > 0, most / most.max(), 1).sqrt()
    norm.weight /= factors
    norm.bias /= factors
    convolution.weight *= factors[:, None, None]
    return model


def save_int8(backend: str, tower: str, exact: Path, path: Path, inputs: list[dict[str, Tensor]]) -> Path:
    """Quantise a compiled tower: weights symmetrically, activations from their least to their largest value.

    Args:
        backend: "onnx" or "openvino".
        tower: "text", "image" or "depth".
        exact: file of the tower in float32.
        path: file to write.
        inputs: what gives the ranges.
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
        # The means of the ranges, as is NNCF's default, cut off the extremes; its correction of biases made it worse.
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


def _prepare(model: Any, tower: str, item: Any) -> dict[str, Tensor]:
    """What the tower takes for one item: tensors [1, ...]."""
    if tower == "text":
        tokens = model.text_tokenizer([item], truncation=True, max_length=model._token_limit(), return_tensors="pt")
        return {name: tokens[name] for name in input_names("text")}
    if tower == "image":
        return dict(model.image_processor(read_images([item], 0), return_tensors="pt"))
    processor = model.depth_processor if hasattr(model, "depth_processor") else model.processor
    return dict(processor([item]))
