"""Which of our models a folder holds."""

import json
from pathlib import Path

from ..models.configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from ..models.configuration_multimodal_encoder import MultimodalEncoderConfig

DEPTH, MULTIMODAL = DepthSemanticEncoderConfig.model_type, MultimodalEncoderConfig.model_type


def repo_kind(repo: Path) -> str:
    """`DEPTH` or `MULTIMODAL`.

    Raises:
        ValueError: if the folder holds no model, or one that is not ours.
    """
    try:
        kind = json.loads((repo / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{repo}: no repo of a model: config.json cannot be read ({error})") from None
    if kind not in (DEPTH, MULTIMODAL):
        raise ValueError(f"{repo}: a model of type {kind!r}, expected {DEPTH} or {MULTIMODAL}")
    return str(kind)
