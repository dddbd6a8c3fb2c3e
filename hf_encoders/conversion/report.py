"""What a conversion leaves beside the weights: conversion_report.json and the model card."""

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..fingerprint import sha256
from ..hub.model_card import REPORT_NAME

_LARGEST_ARRAY = 1000  # numbers; what is larger is no figure of a training run
_LIBRARIES = ("torch", "transformers", "safetensors", "huggingface_hub", "numpy")


def weight_digests(repo: Path) -> dict[str, str]:
    """SHA-256 of each weight file of a repo."""
    return {path.name: sha256(path) for path in sorted(repo.glob("*.safetensors"))}


def library_versions() -> dict[str, str]:
    """What computed the numbers of a report."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def plain(value: Any) -> Any:
    """The JSON form of whatever a checkpoint says about itself; what has none becomes its text."""
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # tensors, NumPy arrays and numbers
        large = math.prod(value.shape) > _LARGEST_ARRAY
        return f"an array of shape {list(value.shape)}" if large else plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (int, float)):
        return value
    # Names that are no valid UTF-8 reach Python as lone surrogates, which no UTF-8 file can hold.
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def file_name(source: str) -> str:
    """How a report names a source: a Hub id as it is, a file or folder without its place on this machine."""
    return plain(Path(source).resolve().name if Path(source).exists() else source)


def write_report(repo: Path, report: Mapping[str, Any]) -> None:
    """Write conversion_report.json."""
    (repo / REPORT_NAME).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_report(repo: Path) -> dict[str, Any]:
    """Read conversion_report.json.

    Raises:
        ValueError: if the folder has none, or it is damaged.
    """
    path = repo / REPORT_NAME
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{repo}: has no {REPORT_NAME}; it is no repo that hf-encoders convert wrote") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(report, dict) or not {"source", "weights_sha256"} <= report.keys():
        raise ValueError(f"{path}: not what hf-encoders convert wrote; convert the checkpoint again")
    return report


def known_metadata(repo: Path) -> dict[str, Any]:
    """What the source said of its training, where the repo was converted and still has the report."""
    return read_report(repo)["source"]["metadata"] if (repo / REPORT_NAME).is_file() else {}
