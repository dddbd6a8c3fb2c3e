"""Towers in 8 bits: static quantisation by NNCF, with the ranges of real inputs."""

from pathlib import Path
from typing import Any

from torch import Tensor

from .modalities import default_modality
from .models.image_files import read_images
from .models.tower_programs import input_names
from .sources import open_source

_ROWS, _BATCH = 256, 1  # NNCF takes statistics of one input at a time


def calibration_batches(model: Any, towers: Any, source: str) -> dict[str, list[dict[str, Tensor]]]:
    """Tower → inputs of the first rows of a data set, for the towers that it has inputs for.

    Raises:
        ValueError: if it has none for any of them.
    """
    batches: dict[str, list[dict[str, Tensor]]] = {}
    refusals = []
    only = [default_modality(model)] if Path(source).is_dir() else None  # files do not say what they are
    for tower in only or towers:
        try:
            opened = open_source(source, tower)
        except ValueError as error:
            refusals.append(str(error))
            continue
        rows = opened.dataset.select(range(min(_ROWS, len(opened.dataset))))
        batches[tower] = [_prepare(model, tower, [item]) for item in rows[opened.column]]
    if not batches:
        raise ValueError("; ".join(refusals))
    return batches


def save_int8(backend: str, exact: Path, path: Path, calibration: list[dict[str, Tensor]]) -> Path:
    """Quantise a compiled tower: weights symmetrically, activations from their least to their largest value."""
    import nncf

    dataset = nncf.Dataset(calibration, lambda batch: {name: tensor.numpy() for name, tensor in batch.items()})
    if backend == "openvino":
        import openvino

        graph = nncf.quantize(openvino.Core().read_model(exact), dataset, preset=nncf.QuantizationPreset.MIXED)
        openvino.save_model(graph, path)
    else:
        import onnx

        graph = nncf.quantize(onnx.load(exact), dataset, preset=nncf.QuantizationPreset.MIXED)
        onnx.save(graph, path)
    return path


def _prepare(model: Any, tower: str, items: list[Any]) -> dict[str, Tensor]:
    if tower == "text":
        tokens = model.text_tokenizer(items, truncation=True, max_length=model._token_limit(), return_tensors="pt")
        return {name: tokens[name] for name in input_names("text")}
    if tower == "image":
        return dict(model.image_processor(read_images(items, 0), return_tensors="pt"))
    processor = getattr(model, "depth_processor", None) or model.processor
    return dict(processor(items, return_tensors="pt"))
