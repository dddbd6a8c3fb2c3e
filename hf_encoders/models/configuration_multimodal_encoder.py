"""Configuration of the multimodal encoder: a text, an image and an optional depth tower in one space."""

from .minimum_versions import MINIMUM_VERSIONS  # noqa: F401 - first, for the imports below ask for them

# isort: split
from typing import Any, Literal, TypedDict, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig

from .configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from .repo_pipelines import RepoPipelinesMixin

# The type of a model that has towers of somebody's own code; its class is in its repo.
JOINED = "joined_multimodal_encoder"
_POOLINGS = ("cls", "mean")
_DEFAULT_TYPES = {"text_config": "bert", "vision_config": "vit"}


def embeds_by_itself(config: PreTrainedConfig) -> bool:
    """Whether a network's `pooler_output` is its embedding, whatever its tokens are: `hf-encoders adopt` says so."""
    return getattr(config, "embedding_output", None) == "pooler_output"


class SpaceOptions(TypedDict, total=False):
    """The fields of a configuration that do not belong to a tower; see `MultimodalEncoderConfig`."""

    projection_dim: int
    temperature_init_value: float
    learn_temperature: bool
    text_pooling: str
    vision_pooling: str


@strict
class MultimodalEncoderConfig(RepoPipelinesMixin, PreTrainedConfig):
    """Towers, projections and temperature; the defaults are the legacy network's (BERT-base and ViT-B/16).

    Args:
        text_config: configuration (or its dictionary, with `model_type`) of any text model that `AutoModel` builds.
        vision_config: the same for the image tower.
        depth_config: configuration of the depth semantic encoder; None for a model without a depth tower.
        projection_dim: dimension D of the shared space.
        temperature_init_value: initial temperature; similarities are divided by it to give logits.
        learn_temperature: whether the temperature is trained. The legacy loss used the constant 0.07.
        text_pooling: "cls" (the first token's last hidden state) or "mean" (over the tokens, without padding).
        vision_pooling: "cls" or "mean". Towers without a class token (ResNet, SigLIP, Swin) and those that normalise
            theirs afterwards (CLIP) give their pooled output for "cls". A network that `hf-encoders adopt` made a repo
            of gives the embedding that it was adopted with; "mean" is refused.
        zero_shot_calibration: when an input is none of the labels of a classification by words: what
            `hf-encoders calibrate` measured, as plain data.

    Raises:
        ValueError: for an invalid pooling, dimension or temperature.
    """

    model_type = "multimodal_encoder"
    # `Trainer` does not collect these over batches for `compute_metrics`, which gets the embeddings.
    keys_to_ignore_at_inference = [
        *("logits_per_image", "logits_per_text", "logits_per_depth"),
        *("logits_per_text_depth", "logits_per_depth_image", "logits_per_image_depth"),
        *("text_model_output", "vision_model_output", "depth_model_output"),
    ]
    # Transformers 5.20 calls this `sub_configs_defaults`.
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig, "depth_config": DepthSemanticEncoderConfig}

    text_config: PreTrainedConfig | dict | None = None
    vision_config: PreTrainedConfig | dict | None = None
    depth_config: PreTrainedConfig | dict | None = None
    projection_dim: int = 256
    temperature_init_value: float | int = 0.07
    learn_temperature: bool = True
    text_pooling: str = "cls"
    vision_pooling: str = "cls"
    zero_shot_calibration: dict | None = None

    def __post_init__(self, **kwargs: object) -> None:
        """Build the towers' configurations, then check what the types alone cannot."""
        for name, model_type in _DEFAULT_TYPES.items():
            given = getattr(self, name) or {}
            if isinstance(given, dict):
                own = self.sub_configs[name]  # a class of the repo's code, or whatever the model's type names
                make = AutoConfig.for_model if own is AutoConfig else own
                setattr(self, name, make(**{"model_type": model_type} | given))
        if isinstance(self.depth_config, dict):
            self.depth_config = DepthSemanticEncoderConfig(**self.depth_config)
        super().__post_init__(**kwargs)
        for name in ("text_pooling", "vision_pooling"):
            if getattr(self, name) not in _POOLINGS:
                raise ValueError(f"{name} is {' or '.join(map(repr, _POOLINGS))}, got {getattr(self, name)!r}")
            tower = getattr(self, name.replace("pooling", "config"))
            if getattr(self, name) == "mean" and embeds_by_itself(tower):
                raise ValueError(
                    f"{name} is 'mean', and a {tower.model_type} gives an embedding of its own: leave it out"
                )
        if self.projection_dim < 1:
            raise ValueError(f"projection_dim must be at least 1, got {self.projection_dim}")
        if not self.temperature_init_value > 0:
            raise ValueError(f"temperature_init_value must be positive, got {self.temperature_init_value}")

    @classmethod
    def default_config_fields(cls) -> dict[str, object]:
        """The defaults that config.json leaves out: for a tower, those of its class. Older transformers knows that."""
        return super().default_config_fields() | dict.fromkeys(cls.sub_configs, {})

    def to_dict(self) -> dict[str, Any]:
        """Without where the towers came from: config.json is published, and a folder tells of a machine."""
        settings = super().to_dict()
        for name in self.sub_configs:
            if isinstance(settings.get(name), dict):
                settings[name].pop("_name_or_path", None)
        return settings

    def tower_config(self, name: Literal["text", "vision"]) -> PreTrainedConfig:
        """The configuration of a tower that every model has; `text_config` also takes a dictionary, but keeps none."""
        return cast(PreTrainedConfig, getattr(self, f"{name}_config"))

    @property
    def max_position_embeddings(self) -> int:
        """The text tower's limit, where sentence-transformers cuts texts; AttributeError if it has none."""
        return self.tower_config("text").max_position_embeddings


__all__ = ["MultimodalEncoderConfig"]
