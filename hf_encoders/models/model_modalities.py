"""The modalities that a model embeds, and the one that inputs have where nobody says it."""

from collections.abc import Sequence

from .input_modality import picture_modality
from .tower import Encoder, Modality

# The modalities that are classified by words.
PICTURES: tuple[Modality, ...] = ("image", "depth")
# A hint for models that lack texts or pictures.
BOTH_EXAMPLES = "a model of texts and pictures, such as CLIP or SigLIP"


def modalities(model: object) -> tuple[Modality, ...]:
    """The modalities that a model embeds; none for a model without towers."""
    return model.towers if isinstance(model, Encoder) else ()


def default_modality(model: object) -> Modality:
    """Images, where the model embeds them, else what it embeds alone: depth maps or texts."""
    known = modalities(model)
    return known[0] if len(known) == 1 else "image"


def pictures_or_default(model: object, inputs: object) -> Modality:
    """The modality of raw inputs, one or many, by the first of them; the model's default where it does not tell."""
    known = modalities(model)
    if not {"image", "depth"} <= set(known):
        return default_modality(model)
    first = inputs
    if isinstance(inputs, Sequence) and not isinstance(inputs, (str, bytes)):
        first = inputs[0] if len(inputs) else None
    return picture_modality(first) or default_modality(model)
