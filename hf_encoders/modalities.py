"""The modalities that a model embeds, and how to tell which one a column of a data set holds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import PIL.Image

from .models.encoding import Encode
from .models.tower import MODALITIES, Encoder, Modality

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# The modalities that are classified by words.
PICTURES: tuple[Modality, ...] = ("image", "depth")
# The modality of a PIL image, where its mode says so.
_PIL_MODALITIES: Mapping[str, Modality] = {
    "RGB": "image",
    "RGBA": "image",
    "I": "depth",
    "I;16": "depth",
    "F": "depth",
}


def encoder_of(model: object) -> Encoder:
    """The model, if it embeds.

    Raises:
        ValueError: if it has no towers.
    """
    if not isinstance(model, Encoder):
        raise ValueError(f"a {type(model).__name__}, expected a multimodal or a depth encoder")
    return model


def modalities(model: object) -> tuple[Modality, ...]:
    """The modalities that a model embeds; none for a model without towers."""
    return model.towers if isinstance(model, Encoder) else ()


def default_modality(model: object) -> Modality:
    """Images, where the model embeds them, else depth."""
    return "depth" if modalities(model) == ("depth",) else "image"


def picture_modality(item: object) -> Modality | None:
    """The modality of a PIL image: colours are images, 16 and 32 bits depth maps; None for anything else."""
    return _PIL_MODALITIES.get(item.mode) if isinstance(item, PIL.Image.Image) else None


def column_modality(model: object, dataset: "Dataset | IterableDataset", column: str) -> Modality:
    """The modality of the first item of a data set's column if that is a picture, else the model's default."""
    try:
        first = next(iter(dataset.select_columns([column]).with_format(None)))[column]
    except (StopIteration, OSError, SyntaxError, ValueError):  # no rows, or what decoders raise; encoding says more
        return default_modality(model)
    return picture_modality(first) or default_modality(model)


def encoder(model: object, modality: str) -> Encode[object]:
    """The method of a model that embeds a modality.

    Raises:
        ValueError: if the modality is unknown, or the model does not embed it: the message lists what it embeds.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality is one of {', '.join(MODALITIES)}, got {modality!r}")
    return encoder_of(model).tower(modality).encode
