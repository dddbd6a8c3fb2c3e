"""What a model embeds, and by which method."""

from typing import Any

MODALITIES = ("text", "image", "depth")


def modalities(model: Any) -> list[str]:
    """What a model embeds, out of "text", "image" and "depth"."""
    if hasattr(model, "encode_text"):
        return [name for name in MODALITIES if name != "depth" or model.config.depth_config is not None]
    return ["depth"] if hasattr(model, "encode") else []


def default_modality(model: Any) -> str:
    """Images, where the model embeds them, else depth."""
    return "depth" if modalities(model) == ["depth"] else "image"


def encoder(model: Any, modality: str) -> Any:
    """The method of a model that embeds a modality.

    Raises:
        ValueError: if the modality is unknown, or the model does not embed it.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality is one of {', '.join(MODALITIES)}, got {modality!r}")
    known = modalities(model)
    if not known:
        raise ValueError(f"a {type(model).__name__}, expected a multimodal or a depth encoder")
    if modality not in known:
        raise ValueError(f"the model embeds {' and '.join(known)}, not {modality}")
    return getattr(model, f"encode_{modality}", None) or model.encode
