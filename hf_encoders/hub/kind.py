"""Tells which of our models a folder holds."""

import json
from pathlib import Path

from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.configuration_multimodal_encoder import MultimodalEncoderConfig
from ..models.input_errors import InputError, one_line

DEPTH, MULTIMODAL = DepthSemanticEncoderConfig.model_type, MultimodalEncoderConfig.model_type


def repo_kind(repo: Path) -> str:
    """Return `DEPTH` or `MULTIMODAL`.

    Raises:
        InputError: if the folder holds no model, or one that is not ours.
    """
    try:
        kind = json.loads((repo / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        found = getattr(error, "strerror", None) or one_line(error)
        raise InputError(path=repo, reason=f"no repo of a model: config.json cannot be read ({found})") from None
    if kind not in (DEPTH, MULTIMODAL):
        raise InputError(path=repo, reason=f"a model of type {kind!r}, expected {DEPTH} or {MULTIMODAL}")
    return str(kind)
