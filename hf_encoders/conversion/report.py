"""conversion_report.json: the proof that a conversion leaves beside the weights."""

import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import cast, overload

import numpy as np
from torch import Tensor

from ..fingerprint import sha256
from ..hub.model_card import REPORT_NAME
from ..hub.reports import ConversionReport, Json
from ..versions import library_versions

_LARGEST_ARRAY = 1000  # numbers; a larger array is not a figure of a training run
_LIBRARIES = ("torch", "transformers", "safetensors", "huggingface_hub", "numpy")


def weight_digests(repo: Path) -> dict[str, str]:
    """SHA-256 of each weight file of a repo."""
    return {path.name: sha256(path) for path in sorted(repo.glob("*.safetensors"))}


def report_versions() -> dict[str, str]:
    """Versions of the software that computed the numbers of a report."""
    return {"python": platform.python_version()} | library_versions(_LIBRARIES)


@overload
def plain(value: str) -> str: ...


@overload
def plain(value: Mapping[str, object]) -> dict[str, Json]: ...


@overload
def plain(value: object) -> Json: ...


def plain(value: object) -> Json:
    """The JSON form of any value in a checkpoint; a value without one becomes its text."""
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        large = math.prod(value.shape) > _LARGEST_ARRAY
        return f"an array of shape {list(value.shape)}" if large else plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (int, float)):
        return value
    # Names that are not valid UTF-8 reach Python as lone surrogates, which no UTF-8 file can hold.
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def file_name(source: str) -> str:
    """A source's name in a report: a Hub id as it is, a file or folder without its place on this machine."""
    return plain(Path(source).resolve().name if Path(source).exists() else source)


def write_report(repo: Path, report: Mapping[str, object]) -> None:
    """Write conversion_report.json."""
    (repo / REPORT_NAME).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_report(repo: Path) -> ConversionReport:
    """Read conversion_report.json.

    Raises:
        ValueError: if the folder has none, or it is damaged.
    """
    path = repo / REPORT_NAME
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{repo}: has no {REPORT_NAME}; it is not a repo that hf-encoders convert wrote") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(report, dict) or not {"source", "weights_sha256"} <= report.keys():
        raise ValueError(f"{path}: not what hf-encoders convert wrote; convert the checkpoint again")
    return cast(ConversionReport, report)


def known_metadata(repo: Path) -> Mapping[str, Json]:
    """The source's own entries about its training, where the repo was converted and still has the report."""
    return read_report(repo)["source"]["metadata"] if (repo / REPORT_NAME).is_file() else {}
