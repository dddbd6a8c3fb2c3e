"""Towers of plain models of transformers: a ViT, a BERT or a CLIP embeds as the models of this project do.

tower = make_tower(model, processor, "image", pooling="cls")
tower.encode(["chair.jpg", "table.jpg"], convert_to="numpy")         # [2, D]
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Literal, cast

from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling as Outputs
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import ProcessorMixin
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .image_sizes import SizedImageTower
from .models.image_processing_depth import DepthImageProcessor
from .models.multimodal_towers import feature_size, has_first_token, hidden_state, mean_feature
from .models.pixel_towers import DepthTower, ImageTower
from .models.text_tower import TextTower
from .models.tower import Modality, Pool, Processor, pooler_output

Pooling = Literal["pooler", "cls", "mean"]
# Models whose texts were padded to the limit in training, and whose padding is read.
_READ_PADDING = ("siglip", "siglip2", "siglip_text_model")
_PARTS = {"text": "tokenizer", "image": "image_processor", "depth": "image_processor"}


class Given(Generic[Processor]):
    """The processor that a tower was made with."""

    def __init__(self, processor: Processor):
        self._processor = processor

    def get(self) -> Processor:
        """The processor."""
        return self._processor

    def set(self, processor: Processor) -> None:
        """Use another one."""
        self._processor = processor


def make_tower(
    model: PreTrainedModel,
    processor: PreTrainedTokenizerBase | BaseImageProcessor | ProcessorMixin,
    modality: Modality,
    *,
    pooling: Pooling | None = None,
    normalize: bool = False,
    interpolate: int | None = None,
) -> TextTower | ImageTower | DepthTower:
    """The tower of a model of transformers.

    Args:
        model: a model of texts or of images (`BertModel`, `ViTModel`, ...), of both with projections (`CLIPModel`), or
            of depth maps.
        processor: its tokenizer or image processor, or a processor that holds them; a `DepthImageProcessor`.
        modality: what to embed.
        pooling: "pooler" (the model's `pooler_output`), "cls" (its first token) or "mean" (over the tokens that are not
            padding): the one that the model was trained with, which no configuration tells. None for a model with
            `get_text_features` or `get_image_features`, which pool and project by themselves.
        normalize: whether `encode` scales embeddings to length 1 unless told otherwise.
        interpolate: the side in pixels of the squares that the image processor makes, where it is not the model's own:
            the model interpolates its positions.

    Raises:
        ValueError: if the pooling is missing, unknown, or not the model's to choose, or the size of its features is
            unknown.
    """
    if modality not in _PARTS:
        raise ValueError(f"modality is one of {', '.join(_PARTS)}, got {modality!r}")
    if isinstance(processor, ProcessorMixin):
        processor = getattr(processor, _PARTS[modality])
    name = type(model).__name__
    features: Callable[..., Outputs] | None = getattr(model, f"get_{modality}_features", None)
    call: Callable[..., Outputs]
    if features is None:
        if pooling not in _POOLS:
            raise ValueError(f"pooling is one of {', '.join(_POOLS)}, got {pooling!r}: the one {name} was trained with")
        call, pool = model, _POOLS[pooling]
        size, network = feature_size(model.config), model
    else:
        if pooling is not None:
            raise ValueError(f"{name} pools its features by itself: give no pooling")
        call, pool = features, pooler_output
        size, network = _projected_size(model), getattr(model, "text_model", model)
    if modality == "image":
        images = Given(cast(BaseImageProcessor, processor))
        return SizedImageTower(model, call, images, size, pool=pool, normalize=normalize, interpolate=interpolate)
    if modality == "depth":
        if type(processor).__name__ != DepthImageProcessor.__name__:  # that of the repo's code has this name too
            raise ValueError(f"depth maps are read by a DepthImageProcessor, got a {type(processor).__name__}")
        maps = Given(cast(DepthImageProcessor, processor))
        return DepthTower(model, call, maps, size, pool=pool, normalize=normalize)
    texts = Given(cast(PreTrainedTokenizerBase, processor))
    tower = TextTower(model, call, texts, size, network, pool=pool, normalize=normalize)
    tower.reads_padding = tower.reads_padding or model.config.model_type in _READ_PADDING
    return tower


def default_pooling(model: PreTrainedModel, modalities: Sequence[str]) -> Pooling:
    """How a model without features of its own pools where nobody says it.

    Args:
        model: the network. The configuration of an adopted one says that its pooled output is the embedding.
        modalities: what it embeds.
    """
    if getattr(model.config, "embedding_output", None) == "pooler_output":
        return "pooler"
    if tuple(modalities) == ("text",):
        return "mean"
    return "cls" if has_first_token(model) else "pooler"


def _projected_size(model: PreTrainedModel) -> int:
    size: int | None = getattr(model.config, "projection_dim", None)
    if size is None:  # SigLIP's towers have the width of the shared space
        size = getattr(getattr(model.config, "vision_config", None), "hidden_size", None)
    if size is None:
        raise ValueError(f"the configuration of a {type(model).__name__} has no projection_dim")
    return size


def _pooler(outputs: Outputs, batch: Mapping[str, Tensor]) -> Tensor:
    return pooler_output(outputs, batch).flatten(1)  # ResNet's is [B, D, 1, 1]


def _first_token(outputs: Outputs, batch: Mapping[str, Tensor]) -> Tensor:
    hidden = hidden_state(outputs)
    if hidden.ndim != 3:
        raise ValueError("the model has no tokens, which pooling='cls' needs")
    return hidden[:, 0]


def _mean(outputs: Outputs, batch: Mapping[str, Tensor]) -> Tensor:
    return mean_feature(hidden_state(outputs), batch.get("attention_mask"))


_POOLS: dict[str, Pool] = {"pooler": _pooler, "cls": _first_token, "mean": _mean}

__all__ = ["Given", "Pooling", "default_pooling", "make_tower"]
