"""Tells which model a folder holds: one of ours, or one that was converted to a class of transformers."""

import json
from pathlib import Path

from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.configuration_multimodal_encoder import JOINED, MultimodalEncoderConfig
from ..models.input_errors import InputError, one_line

DEPTH, MULTIMODAL = DepthSemanticEncoderConfig.model_type, MultimodalEncoderConfig.model_type
ENCODER, ADOPTED = "converted_encoder", "adopted_network"
REPORT_NAME = "conversion_report.json"


def repo_kind(repo: Path) -> str:
    """Return `DEPTH`, `MULTIMODAL`, `ENCODER` for another family that was converted, or `ADOPTED` for somebody's own.

    A multimodal encoder whose towers' own code is in the repo is `MULTIMODAL` too; see `is_joined`.

    Raises:
        InputError: if the folder holds no model, or one that is not ours and was not converted.
    """
    try:
        kind = json.loads((repo / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        found = getattr(error, "strerror", None) or one_line(error)
        raise InputError(path=repo, reason=f"no repo of a model: config.json cannot be read ({found})") from None
    if kind == JOINED:
        return MULTIMODAL
    if kind not in (DEPTH, MULTIMODAL):
        if (repo / REPORT_NAME).is_file():
            return ADOPTED if is_adopted(repo) else ENCODER
        reason = f"a model of type {kind!r}, neither ours ({DEPTH}, {MULTIMODAL}) nor converted (no {REPORT_NAME})"
        raise InputError(path=repo, reason=reason, hint="transformers' own push_to_hub, or hf upload, pushes others")
    return str(kind)


def is_joined(repo: Path) -> bool:
    """Whether a folder holds a multimodal encoder with towers of somebody's own code, which is there too."""
    try:
        return bool(json.loads((repo / "config.json").read_text(encoding="utf-8")).get("model_type") == JOINED)
    except (OSError, ValueError, AttributeError):
        return False


def is_adopted(repo: Path) -> bool:
    """Whether a folder holds a network of somebody's own, with its code."""
    try:
        return "adopted" in json.loads((repo / REPORT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
