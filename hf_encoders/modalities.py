"""What a model embeds, and by which method."""

from typing import Any

import PIL.Image

MODALITIES = ("text", "image", "depth")
# What a PIL image is, where its mode says so.
_PIL_MODALITIES = {"RGB": "image", "RGBA": "image", "I": "depth", "I;16": "depth", "F": "depth"}


def modalities(model: Any) -> list[str]:
    """What a model embeds, out of "text", "image" and "depth"."""
    if hasattr(model, "encode_text"):
        return [name for name in MODALITIES if name != "depth" or model.config.depth_config is not None]
    return ["depth"] if hasattr(model, "encode") else []


def default_modality(model: Any) -> str:
    """Images, where the model embeds them, else depth."""
    return "depth" if modalities(model) == ["depth"] else "image"


def picture_modality(item: Any) -> str | None:
    """Colour PIL images are images, those of 16 and 32 bits depth maps; None for anything else."""
    return _PIL_MODALITIES.get(item.mode) if isinstance(item, PIL.Image.Image) else None


def column_modality(model: Any, dataset: Any, column: str) -> str:
    """That of the first item of a data set's column if it is a picture that can be read, else the model's default."""
    try:
        first = next(iter(dataset.select_columns([column]).with_format(None)))[column]
    except (StopIteration, OSError, SyntaxError, ValueError):  # no rows, or what decoders raise; encoding says more
        return default_modality(model)
    return picture_modality(first) or default_modality(model)


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
