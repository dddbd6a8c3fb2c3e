"""The compiled towers beside the weights, in a repo that `hf-encoders export` wrote."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel

from ..fingerprint import fingerprint, settings_with_effect
from ..models.backend import Backend, input_device
from ..models.concurrency import evaluating
from ..models.saved_processor import RepoSource, SavedProcessorMixin
from ..models.text_tower import TextTower
from ..models.tower import Tower

EXPORT_REPORT = "export_report.json"
# A file in float32 differs by 1e-5 at most, when it is written.
_TOLERANCE = 1e-3
_LEAST_COSINE = 0.98
_COMPARED = 4  # inputs
_MAY_BE_ABSENT = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_gated_repo": False,
    "_raise_exceptions_for_connection_errors": False,
}


def companions(name: str) -> list[str]:
    """The files that belong to a tower's file; an ONNX graph has one only where it is large."""
    return [name.removesuffix("xml") + "bin"] if name.endswith(".xml") else [f"{name}.data"]


def exported_file(tower: Tower, backend: str, precision: str) -> Path | None:
    """A tower's file in the repo that its model came from, or None if it is to be compiled from the weights.

    Raises:
        ValueError: if an int8 file is missing, which cannot be made from the weights alone, or was made of other
            weights, another configuration, another pooling or images of another size.
    """
    model = tower.model
    source = model.config.name_or_path or ""
    report = _find(model, f"{backend}/{EXPORT_REPORT}") if source else None
    stated = json.loads(report.read_text(encoding="utf-8")) if report else {}
    # Reports of earlier versions name no files: those towers are compiled from the weights.
    name = stated.get("files", {}).get(tower.name, {}).get(precision)
    found = _find(model, name) if name else None
    same_weights = stated and stated["fingerprint"] == fingerprint(model)
    same_pooling = stated.get("pooling", {}).get(tower.name) == tower.pooling
    same_size = stated.get("interpolate", {}).get(tower.name) == tower.interpolate
    if found and same_weights and same_pooling and same_size and _has_saved_config(model):
        for companion in companions(name):
            _find(model, companion)
        return found
    if precision != "int8":
        return None
    other = "other weights"
    if same_weights:
        other = "another pooling" if not same_pooling else "another configuration"
        other = other if same_size else "images of another size"
    reason = f"{name} was made of {other} than the model has now"
    if not found:
        reason = f"{source or 'the model'} has no {tower.name} tower in {precision} for {backend}"
    command = f"hf-encoders export {source or 'MODEL'} --to {backend} --int8 --calibration DATA"
    raise ValueError(f"{reason}; make it with: {command}")


def has_the_function_of(program: Backend, tower: Tower, precision: str) -> bool:
    """Whether a program that was read from a file computes what the tower does now.

    The fingerprint of the weights does not tell of hooks, of replaced modules and of another pooling.
    """
    batch = random_batch(tower, _COMPARED)
    device = input_device(tower.model)
    with torch.inference_mode(), evaluating(tower.model):
        expected = tower.embed({name: tensor.to(device) for name, tensor in batch.items()}).float().cpu()
        found = torch.cat([rows for _, rows in program.embed(iter([(range(_COMPARED), batch)]))])
    if precision == "float32" and tower.model.dtype == torch.float32:
        return bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())
    return bool(torch.cosine_similarity(found, expected).min() >= _LEAST_COSINE)


def random_batch(tower: Tower, count: int) -> dict[str, Tensor]:
    """Random inputs as a tower takes them, the same each time."""
    generator = torch.Generator().manual_seed(0)
    batch = {}
    for name, tensor in tower.example().items():
        shape = (count, *tensor.shape[1:])
        if tensor.is_floating_point():
            batch[name] = torch.rand(shape, generator=generator) * 2 - 1
        elif name == "attention_mask":
            batch[name] = torch.ones(shape, dtype=torch.long)
        else:
            assert isinstance(tower, TextTower)
            batch[name] = torch.randint(tower.vocabulary, shape, generator=generator)
    return batch


def _has_saved_config(model: PreTrainedModel) -> bool:
    source = _source(model)
    saved = type(model.config).from_pretrained(source.name, **source.arguments)
    return settings_with_effect(saved.to_dict()) == settings_with_effect(model.config.to_dict())


def _find(model: PreTrainedModel, name: str) -> Path | None:
    return _source(model).find(name, **_MAY_BE_ABSENT)


def _source(model: PreTrainedModel) -> RepoSource:
    """Where a model was read from; a model of transformers knows no more than its name."""
    if isinstance(model, SavedProcessorMixin):
        return cast("SavedProcessorMixin[Any]", model.base_model).source
    return RepoSource.named(model.config.name_or_path or "", getattr(model.config, "_commit_hash", None))
