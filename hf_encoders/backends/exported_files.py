"""The compiled towers beside the weights, in a repo that `hf-encoders export` wrote."""

import json
from pathlib import Path

from transformers.modeling_utils import PreTrainedModel
from transformers.utils import cached_file

from ..fingerprint import fingerprint

EXPORT_REPORT = "export_report.json"
_MAY_BE_ABSENT = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_gated_repo": False,
    "_raise_exceptions_for_connection_errors": False,
}


def tower_file(backend: str, tower: str, precision: str) -> str:
    """The path in a repo of a compiled tower, such as "openvino/depth.xml" or "onnx/image_int8.onnx"."""
    return f"{backend}/{tower}{'_int8' if precision == 'int8' else ''}.{'xml' if backend == 'openvino' else 'onnx'}"


def companions(name: str) -> list[str]:
    """The files that belong to a tower's file; an ONNX graph has one only where it is large."""
    return [name.removesuffix("xml") + "bin"] if name.endswith(".xml") else [f"{name}.data"]


def exported_file(model: PreTrainedModel, backend: str, tower: str, precision: str) -> Path | None:
    """The tower's file in the repo that a model came from, or None if it is to be compiled from the weights.

    Raises:
        ValueError: if an int8 file is missing, which cannot be made from the weights alone, or was made of other
            weights.
    """
    name = tower_file(backend, tower, precision)
    source = model.config.name_or_path or ""
    report = _find(model, f"{backend}/{EXPORT_REPORT}") if source else None
    found = _find(model, name) if report else None
    if found and report and json.loads(report.read_text(encoding="utf-8"))["fingerprint"] == fingerprint(model):
        for companion in companions(name):
            _find(model, companion)
        return found
    if precision != "int8":
        return None
    reason = "was made of other weights than the model has now" if found else f"is not in {source or 'the model'}"
    command = f"hf-encoders export {source or 'MODEL'} --to {backend} --int8 --calibration DATA"
    raise ValueError(f"{name} {reason}; make it with: {command}")


def _find(model: PreTrainedModel, name: str) -> Path | None:
    config = model.config
    revision = getattr(config, "_commit_hash", None)
    folder, _, file = name.rpartition("/")
    path = cached_file(config.name_or_path or "", file, subfolder=folder, revision=revision or "main", **_MAY_BE_ABSENT)
    return Path(path) if path else None
