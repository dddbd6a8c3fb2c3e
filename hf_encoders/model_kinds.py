"""What a model of transformers embeds, told by its configuration; and why some models embed nothing."""

from dataclasses import dataclass

from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_IMAGE_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
)

from .models.input_errors import InputError
from .models.multimodal_towers import RANDOM
from .models.tower import MODALITIES, Modality

_BOTH = {*MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES, "siglip2", "vision-text-dual-encoder"}
_BOTH -= {"blip-2", "clipseg"}  # generate words, or mark pixels
_IMAGES = {*MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, *MODEL_FOR_IMAGE_MAPPING_NAMES, "clip_vision_model"}
_TEXTS = {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES, "clip_text_model"}
_TEXTS |= {"siglip_text_model"}
_DETECTORS = {*MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES} - {*MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES}
# What a class of somebody else's says that it reads.
_INPUTS: dict[str, Modality] = {"input_ids": "text", "pixel_values": "image"}
_GENERATIVE_ENDS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSeq2SeqLM")


class NotAnEncoderError(InputError):
    """A model that embeds nothing. The message is one line: which model, why, what to do."""


@dataclass(frozen=True)
class ModelKind:
    """What a model embeds.

    Args:
        modalities: "text", "image" or both; "depth" alone.
        projects: whether it has features of its own in a space that texts and images share.
    """

    modalities: tuple[Modality, ...]
    projects: bool = False


def model_kind(name: str, config: PreTrainedConfig, network: type[PreTrainedModel] | None = None) -> ModelKind:
    """What a model embeds.

    Args:
        name: of the model, for errors.
        config: its configuration.
        network: its class, which tells where it is none of transformers.

    Raises:
        NotAnEncoderError: for generative models, detectors, models that are random, and those of other inputs.
    """
    kind = config.model_type
    architectures = list(getattr(config, "architectures", None) or [])

    def refuse(reason: str, hint: str = "") -> NotAnEncoderError:
        return NotAnEncoderError(path=name, reason=reason, hint=hint)

    if kind in RANDOM:
        hint = "convert its checkpoint with hf-encoders convert, which makes a ViTModel of its encoder"
        raise refuse(f"{RANDOM[kind]}, so that the same image is embedded differently", hint)
    if kind in _BOTH:
        return ModelKind(("text", "image"), projects=True)
    if getattr(config, "is_encoder_decoder", False):
        raise refuse(f"a {kind} has a decoder, which AutoModel loads too and a plain encoder's repo does not hold")
    if any(end in architecture for architecture in architectures for end in _GENERATIVE_ENDS) or (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in _TEXTS
    ):
        raise refuse(f"a generative model ({architectures[0] if architectures else kind}), expected an encoder")
    if kind in _DETECTORS:
        raise refuse(f"a detector ({kind}): it finds boxes and gives no embedding of an image")
    if kind in _IMAGES:
        return ModelKind(("image",))
    if kind in _TEXTS:
        return ModelKind(("text",))
    if network is not None and not network.__module__.startswith("transformers."):
        if all(hasattr(network, f"get_{modality}_features") for modality in ("text", "image")):
            return ModelKind(("text", "image"), projects=True)
        if (stated := getattr(config, "embeds", None)) in MODALITIES:  # what hf-encoders adopt wrote
            return ModelKind((stated,))
        if network.main_input_name in _INPUTS:
            return ModelKind((_INPUTS[network.main_input_name],))
    raise refuse(f"a model of type {kind!r}, expected one of texts, of images, or of both, such as vit, bert or clip")
