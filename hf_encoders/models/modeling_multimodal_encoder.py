"""The multimodal encoder: texts, images and depth maps in one space, with a tower and a projection for each.

Sub-modules keep the names of the legacy network.
"""

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoTokenizer
from transformers import initialization as init
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import ModelOutput, can_return_tuple

from .backend import input_device
from .configuration_depth_semantic_encoder import DepthSemanticEncoderConfig
from .configuration_multimodal_encoder import MultimodalEncoderConfig, SpaceOptions
from .encoding_multimodal import MultimodalEncodingMixin
from .freezing import FreezingMixin
from .image_processing_depth import DepthImageProcessor
from .modeling_depth_semantic_encoder import DepthSemanticEncoderModel
from .multimodal_towers import (
    build_tower,
    current_names,
    feature_size,
    given_mask,
    join_code,
    load_depth_tower,
    load_processor,
    load_towers,
    padding_as_read,
    pooled,
    with_feature,
)
from .processing_multimodal_encoder import MultimodalEncoderProcessor
from .saved_processor import ProcessorPart, SavedProcessorMixin
from .tower import pooler_output

# A smaller learned temperature makes the softmax so sharp that training diverges; CLIP stops at the same value.
_LEAST_TEMPERATURE = 0.01
_Value = TypeVar("_Value")


@dataclass
class MultimodalEncoderOutput(ModelOutput):
    """The output of `MultimodalEncoderModel`; B is the batch of each modality, which may differ without a loss.

    Args:
        loss: scalar: the symmetric cross-entropy of matching rows, mean over the pairs of modalities.
        logits_per_image: [B_image, B_text] cosine similarities divided by the temperature.
        logits_per_text: [B_text, B_image], its transpose.
        logits_per_depth: [B_depth, B_text].
        logits_per_text_depth: [B_text, B_depth], its transpose.
        logits_per_depth_image: [B_depth, B_image].
        logits_per_image_depth: [B_image, B_depth], its transpose.
        last_hidden_state: the tower's, if only one modality is given, as models of one tower return it.
        pooler_output: [B, D], the projected feature, not normalised, if only one modality is given.
        text_embeds: [B_text, D], of length 1.
        image_embeds: [B_image, D], of length 1.
        depth_embeds: [B_depth, D], of length 1.
        text_model_output: the text tower's; its `pooler_output` [B, D] is the projected feature, not normalised.
        vision_model_output: the image tower's, likewise.
        depth_model_output: the depth tower's, likewise.
    """

    loss: Tensor | None = None
    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    logits_per_depth: Tensor | None = None
    logits_per_text_depth: Tensor | None = None
    logits_per_depth_image: Tensor | None = None
    logits_per_image_depth: Tensor | None = None
    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
    depth_embeds: Tensor | None = None
    text_model_output: BaseModelOutputWithPooling | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None
    depth_model_output: BaseModelOutputWithPooling | None = None

    def to_tuple(self) -> tuple[object, ...]:
        """The values that are present; the outputs of the towers become tuples too."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


class MultimodalEncoderModel(
    FreezingMixin, MultimodalEncodingMixin, SavedProcessorMixin[MultimodalEncoderProcessor], PreTrainedModel
):
    """Texts, images and depth maps → one space.

    `encode_text`, `encode_image` and `encode_depth` take raw inputs, `forward` what the processor returns.
    """

    config: MultimodalEncoderConfig
    processor_class = MultimodalEncoderProcessor
    base_model_prefix = "multimodal_encoder"
    input_modalities = ["image", "text"]
    own_towers: ClassVar[Mapping[str, type[PreTrainedModel]]] = {}  # those whose code is in the repo, beside this
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The legacy files hold poolers that nothing uses, and older ones the positions as a buffer.
    _keys_to_ignore_on_load_unexpected = [r"^(text|visual)_encoder\.pooler\.", r"embeddings\.position_ids$"]

    def __init__(self, config: MultimodalEncoderConfig):
        super().__init__(config)
        text, vision = config.tower_config("text"), config.tower_config("vision")
        self.text_encoder = build_tower(text, self.own_towers.get("text"))
        self.visual_encoder = build_tower(vision, self.own_towers.get("vision"))
        self.text_projection = nn.Linear(feature_size(text), config.projection_dim)
        self.visual_projection = nn.Linear(feature_size(vision), config.projection_dim)
        if config.depth_config is not None:
            # Its class is not checked: remote code may import it twice.
            depth = cast(DepthSemanticEncoderConfig, config.depth_config)
            self.depth_encoder = DepthSemanticEncoderModel(depth)
            self.depth_projection = nn.Linear(depth.hidden_size, config.projection_dim)
            self._share_processor()
        temperature = torch.tensor(float(config.temperature_init_value))
        if config.learn_temperature:
            self.temperature = nn.Parameter(temperature)
        else:  # a parameter without a gradient would disturb training on several processes
            self.register_buffer("temperature", temperature)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # The towers initialise themselves.
        if module is self:
            init.constant_(self.temperature, float(self.config.temperature_init_value))
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
            init.zeros_(module.bias)

    @classmethod
    def from_towers(
        cls,
        text: str | os.PathLike[str] | PreTrainedModel,
        vision: str | os.PathLike[str] | PreTrainedModel,
        depth: str | os.PathLike[str] | DepthSemanticEncoderModel | None = None,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        image_processor: BaseImageProcessor | None = None,
        depth_processor: DepthImageProcessor | None = None,
        trust_remote_code: bool = False,
        **config: Unpack[SpaceOptions],
    ) -> "MultimodalEncoderModel":
        """Join towers, with their weights, by new projections.

        Args:
            text: Hub id, folder or model of the text tower; a model is copied, and of a CLIP its tower of texts taken.
                Of a network with code of its own, such as an adopted one, the code is saved beside the weights.
            vision, depth: the same for the image tower; for the depth tower, a depth semantic encoder.
            tokenizer: for the processor; by default the one beside the text tower, if there is one.
            image_processor, depth_processor: the same for images and for depth maps.
            trust_remote_code: run the code in the repos of `text` and `vision`.
            config: the fields of `MultimodalEncoderConfig` that do not belong to a tower.

        Raises:
            OSError, ValueError: if a tower cannot be loaded, is not whole, or needs code that is not trusted.
        """
        model_class, towers = join_code(cls, load_towers(text, vision, trust_remote_code=trust_remote_code))
        make = cast("type[MultimodalEncoderConfig]", model_class.config_class)
        made = make(text_config=towers["text"].config, vision_config=towers["vision"].config, **config)
        model = model_class(made)
        model.text_encoder, model.visual_encoder = towers["text"], towers["vision"]
        model.processor = MultimodalEncoderProcessor(
            image_processor=image_processor or load_processor(AutoImageProcessor, vision),
            tokenizer=padding_as_read(tokenizer or load_processor(AutoTokenizer, text), towers["text"]),
        )
        if depth is not None:
            model.add_depth_tower(depth, depth_processor)
        return model.eval()

    def add_depth_tower(
        self,
        depth: str | os.PathLike[str] | DepthSemanticEncoderModel,
        depth_processor: DepthImageProcessor | None = None,
    ) -> None:
        """Give the model a depth tower, or another one, with a new projection that needs training.

        Args:
            depth: Hub id, folder or model of a depth semantic encoder; a model is copied.
            depth_processor: by default the one beside the tower.

        Raises:
            OSError, ValueError: if it cannot be loaded, is not whole, or is another model.
        """
        tower = load_depth_tower(depth)
        depth_processor = depth_processor or tower.processor
        self.config.depth_config = tower.config
        self.depth_encoder = tower
        self.depth_projection = nn.Linear(tower.config.hidden_size, self.config.projection_dim)
        self._init_weights(self.depth_projection)
        nn.ModuleList([self.depth_encoder, self.depth_projection]).to(self.device, self.dtype)
        self.processor.depth_image_processor = depth_processor
        self._share_processor()

    def _share_processor(self) -> None:
        """Let the depth tower, used by itself, read maps as the model does."""
        self.depth_encoder.saved_processor = ProcessorPart(self.saved_processor, "depth_image_processor")

    @classmethod
    def _default_processor(cls, config: MultimodalEncoderConfig) -> MultimodalEncoderProcessor:
        if config.depth_config is None:
            return MultimodalEncoderProcessor()
        depth = cast(DepthSemanticEncoderConfig, config.depth_config)  # the field takes a dictionary too
        return MultimodalEncoderProcessor(depth_image_processor=DepthSemanticEncoderModel._default_processor(depth))

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Load as PyTorch does; `Trainer` resumes from files of `save_pretrained`, so their names are taken too."""
        return super().load_state_dict(current_names(self, state_dict), strict, assign)

    def get_input_embeddings(self) -> nn.Module:
        """The text tower's input embeddings."""
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Give the text tower other ones, as `resize_token_embeddings` does for new tokens."""
        self.text_encoder.set_input_embeddings(value)

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **kwargs: object,
    ) -> BaseModelOutputWithPooling:
        """Project the text tower's features.

        Args:
            input_ids: [B, L] tokens.
            attention_mask: [B, L], zero for padding.
            token_type_ids: [B, L], for towers that take them.
            kwargs: other arguments of the tower (`position_ids`, `output_hidden_states`, ...).

        Returns:
            The tower's output; its `pooler_output` [B, D] is the projected feature, not normalised.
        """
        kwargs |= _drop_none({"token_type_ids": token_type_ids})
        attention_mask = given_mask(self.text_encoder, input_ids, attention_mask)
        outputs = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **kwargs)
        feature = pooled(self.text_encoder, outputs, self.config.text_pooling, attention_mask)
        return with_feature(outputs, self.text_projection(feature))

    @can_return_tuple
    def get_image_features(self, pixel_values: Tensor, **kwargs: object) -> BaseModelOutputWithPooling:
        """Project the image tower's features.

        Args:
            pixel_values: [B, 3, H, W].
            kwargs: other arguments of the tower (`interpolate_pos_encoding`, `output_hidden_states`, ...).

        Returns:
            See `get_text_features`.
        """
        outputs = self.visual_encoder(pixel_values=pixel_values.to(self.dtype), return_dict=True, **kwargs)
        feature = pooled(self.visual_encoder, outputs, self.config.vision_pooling)
        return with_feature(outputs, self.visual_projection(feature))

    @can_return_tuple
    def get_depth_features(self, depth_values: Tensor, **kwargs: object) -> BaseModelOutputWithPooling:
        """Project the depth tower's embedding.

        Args:
            depth_values: [B, C, H, W] in [-1, 1].
            kwargs: other arguments of the tower (`output_hidden_states`).

        Returns:
            See `get_text_features`.

        Raises:
            ValueError: if the model has no depth tower.
        """
        self.require_depth_tower()
        outputs = self.depth_encoder(depth_values, return_dict=True, **kwargs)
        return with_feature(outputs, self.depth_projection(outputs.pooler_output))

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        token_type_ids: Tensor | None = None,
        depth_values: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: object,
    ) -> MultimodalEncoderOutput:
        """Embed any one, two or three modalities, and compare them.

        Args:
            input_ids: [B, L] tokens of texts, as `attention_mask`, `position_ids` and `token_type_ids`.
            pixel_values: [B, 3, H, W] images.
            attention_mask: [B, L], zero for padding.
            position_ids: [B, L].
            return_loss: also compute the contrastive loss: row i of one modality belongs to row i of the others.
            token_type_ids: [B, L].
            depth_values: [B, C, H, W] depth maps in [-1, 1].
            output_attentions: also return the attentions of the transformer towers (needs `eager` attention).
            output_hidden_states: also return the hidden states of the towers.
            kwargs: for the image tower (`interpolate_pos_encoding`).

        Raises:
            ValueError: if no modality is given, a tower is absent, or the loss has no two batches of equal size.
        """
        asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        usual = {name: getattr(self.config, name) for name in asked}
        recorded = {name: on for name, on in (usual | _drop_none(asked)).items() if on}
        states = {name: on for name, on in recorded.items() if name == "output_hidden_states"}
        outputs: dict[str, BaseModelOutputWithPooling] = {}
        if input_ids is not None:
            positions = _drop_none({"position_ids": position_ids})
            outputs["text"] = self.get_text_features(
                input_ids, attention_mask, token_type_ids, **positions, **recorded, return_dict=True
            )
        if pixel_values is not None:
            outputs["image"] = self.get_image_features(pixel_values, **recorded, **kwargs, return_dict=True)
        if depth_values is not None:
            outputs["depth"] = self.get_depth_features(depth_values, **states, return_dict=True)
        if not outputs:
            raise ValueError("nothing to embed: give input_ids, pixel_values or depth_values")

        device = self.temperature.device  # a device map may part the towers
        features = {name: pooler_output(output, {}).to(device) for name, output in outputs.items()}
        embeds = {name: nn.functional.normalize(feature, dim=-1) for name, feature in features.items()}
        logits = {
            (one, other): embeds[one] @ embeds[other].T / self.clamped_temperature
            for one, other in itertools.permutations(embeds, 2)
        }
        alone = next(iter(outputs.values())) if len(outputs) == 1 else BaseModelOutputWithPooling()
        return MultimodalEncoderOutput(
            loss=_contrastive_loss(logits) if return_loss else None,
            logits_per_image=logits.get(("image", "text")),
            logits_per_text=logits.get(("text", "image")),
            logits_per_depth=logits.get(("depth", "text")),
            logits_per_text_depth=logits.get(("text", "depth")),
            logits_per_depth_image=logits.get(("depth", "image")),
            logits_per_image_depth=logits.get(("image", "depth")),
            last_hidden_state=alone.last_hidden_state,
            pooler_output=alone.pooler_output,
            text_embeds=embeds.get("text"),
            image_embeds=embeds.get("image"),
            depth_embeds=embeds.get("depth"),
            text_model_output=outputs.get("text"),
            vision_model_output=outputs.get("image"),
            depth_model_output=outputs.get("depth"),
        )

    @property
    def clamped_temperature(self) -> Tensor:
        """The divisor of similarities: the temperature, at least 0.01."""
        return self.temperature.clamp(min=_LEAST_TEMPERATURE)

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Lift a temperature below 0.01, where it would get no gradient; call it after each training step."""
        self.temperature.clamp_(min=_LEAST_TEMPERATURE)

    def similarity(self, a: ArrayLike | Tensor, b: ArrayLike | Tensor) -> Tensor:
        """Cosine similarities [N, M] of embeddings [N, D] and [M, D], tensors or arrays."""
        a, b = (torch.as_tensor(one, device=input_device(self)).float() for one in (a, b))
        return nn.functional.normalize(a, dim=-1) @ nn.functional.normalize(b, dim=-1).T


def _contrastive_loss(logits: dict[tuple[str, str], Tensor]) -> Tensor:
    """Mean over the directions of the cross-entropy of matching rows (Radford et al., https://arxiv.org/abs/2103.00020)."""
    if not logits:
        raise ValueError("the contrastive loss compares two modalities, and one was given")
    losses = []
    for (one, other), values in logits.items():
        rows, columns = values.shape
        if rows != columns:
            raise ValueError(f"the loss needs a {other} for each {one}: {rows} {one}, {columns} {other}")
        losses.append(nn.functional.cross_entropy(values.float(), torch.arange(rows, device=values.device)))
    return torch.stack(losses).mean()


def _drop_none(arguments: Mapping[str, _Value | None]) -> dict[str, _Value]:
    """Leave out the arguments that were not given: not every tower takes them."""
    return {name: value for name, value in arguments.items() if value is not None}


__all__ = ["MultimodalEncoderModel", "MultimodalEncoderOutput"]
