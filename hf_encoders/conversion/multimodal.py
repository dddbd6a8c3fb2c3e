"""A legacy multimodal checkpoint → MultimodalEncoderModel with its processor, and AdamW's state on request."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertConfig, PreTrainedModel, ViTConfig

from ..checkpoints.errors import LayoutError
from ..checkpoints.finding.choice import ChosenWeights
from ..checkpoints.state_dicts import check_values
from ..hub.reports import PartsReport, Verification
from ..models.configuration_multimodal_encoder import MultimodalEncoderConfig
from ..models.modeling_multimodal_encoder import MultimodalEncoderModel
from ..models.processing_multimodal_encoder import MultimodalEncoderProcessor
from .assumptions import Assumption, as_report
from .depth_tower import DepthTower, read_depth_tower
from .families.legacy.multimodal_layouts import LEGACY_TEMPERATURE, Heads, model_name, recognise_multimodal
from .plain_data import harmless
from .report import file_name
from .tower_sources import has_tokenizer, read_config, read_image_processor, read_tokenizer
from .training_state import check_training_state, legacy_training_state, write_training_state
from .verify_multimodal import multimodal_outputs, verify_multimodal


@dataclass(frozen=True)
class MultimodalOptions:
    """Options of a multimodal conversion.

    Args:
        text_model: folder or Hub id of BERT: configuration and tokenizer.
        vision_model: folder or Hub id of ViT: configuration and image processor.
        tokenizer: folder or Hub id of a tokenizer, or a vocab.txt.
        allow_no_tokenizer: write a repo without a tokenizer if no source has one.
        depth_encoder: folder or Hub id of a depth semantic encoder that becomes the depth tower.
        with_training_state: write the optimizer's state too.
        attention_heads: of both towers, or of the text and of the image tower. No tensor tells the number.
    """

    text_model: str | None = None
    vision_model: str | None = None
    tokenizer: str | None = None
    allow_no_tokenizer: bool = False
    depth_encoder: str | None = None
    with_training_state: bool = False
    attention_heads: tuple[int, ...] | None = None

    @property
    def heads(self) -> Heads:
        """Attention heads of the text and of the image tower."""
        if self.attention_heads is None:
            return None, None
        return self.attention_heads[0], self.attention_heads[-1]


class MultimodalConversion:
    """A multimodal checkpoint on its way to a repo; see `write_repo.Conversion`.

    Args:
        chosen: the weights of the file.
        options: the sources of what the file lacks.

    Raises:
        CheckpointError: if the file cannot be used.
        ValueError: if an option's source cannot be used, or there is no tokenizer.
        OSError: if an option's source cannot be read.
    """

    def __init__(self, chosen: ChosenWeights, options: MultimodalOptions):
        text = options.text_model and read_config("--text-model", options.text_model, BertConfig)
        vision = options.vision_model and read_config("--vision-model", options.vision_model, ViTConfig)
        self.source = source = recognise_multimodal(chosen, text or None, vision or None, options.heads)
        self.training_state = legacy_training_state(source) if options.with_training_state else None
        self.sources: dict[str, str | None] = {
            "text_config": options.text_model and file_name(options.text_model),
            "vision_config": options.vision_model and file_name(options.vision_model),
        }
        self.processor = self._make_processor(options)
        self.assumed = [*self._assumed_heads(options), *self._assumed_normalisation(), *self._assumed_temperature()]
        self.depth: DepthTower | None = None
        if options.depth_encoder:
            self.depth = read_depth_tower(options.depth_encoder, source.projection_dim)
            self.processor.depth_image_processor = self.depth.processor
            self.sources["depth_encoder"] = self.depth.name
        self.wanted: Mapping[str, Tensor] = source.tensors.plus(self.depth.tensors if self.depth else {})

    def check(self) -> None:
        """Refuse tensors with values that no network can hold."""
        check_values(self.source.path, self.source.tensors)

    def write(self, repo: Path, tensors: dict[str, Tensor]) -> PreTrainedModel:
        """Write the model, its processor and the training state."""
        with torch.device("meta"):
            model = MultimodalEncoderModel(self._config())
        state_dict = {model_name(name): tensor.contiguous() for name, tensor in tensors.items()}
        model.load_state_dict(state_dict, assign=True)
        model.processor = self.processor
        # A tensor has one name in the file, in memory, in the report and in the training state.
        model.save_pretrained(repo, save_original_format=False)
        if self.training_state:
            write_training_state(repo, *self.training_state)
            check_training_state(repo, model)
        return model

    def expected(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the verification's inputs through the legacy network."""
        return multimodal_outputs(self._config(), tensors)

    def verify(self, repo: Path, expected: Mapping[str, Tensor]) -> Verification:
        """Compare a repo's outputs with the expected ones."""
        return verify_multimodal(repo, expected)

    def report(self, model: PreTrainedModel) -> PartsReport:
        """The model's parts, their sources, and the keys that are not carried over."""
        towers = ("text_encoder", "visual_encoder", "depth_encoder")
        sizes = {name: getattr(model, name).num_parameters() for name in towers if hasattr(model, name)}
        return {
            "parameters": {"total": model.num_parameters(), **sizes},
            "parts": self.sources,
            "attention_heads": {
                "text_config": self.source.text_config.num_attention_heads,
                "vision_config": self.source.vision_config.num_attention_heads,
            },
            "assumed": as_report(self.assumed),
            "dropped": [harmless(key) for key in (*self.source.dropped, *self.source.chosen.dropped)],
            "untrained": ["depth_projection"] if self.depth else [],
            "training_state": self.training_state[1] if self.training_state else None,
        }

    def keys(self) -> dict[str, str | None]:
        """Key in the file → name in the repo, or None for what is not carried over."""
        kept: dict[str, str | None] = {key: model_name(name) for name, key in self.source.source_keys.items()}
        return kept | dict.fromkeys([*self.source.dropped, *self.source.chosen.dropped])

    def release(self) -> None:
        """Let go of the tensors of the file, of the optimizer and of the depth tower."""
        del self.source, self.wanted, self.training_state, self.depth

    def _config(self) -> MultimodalEncoderConfig:
        temperature = self.source.tensors["temperature"].float().numpy()  # prints as 0.07, not as 0.0700000003
        return MultimodalEncoderConfig(
            text_config=self.source.text_config.to_dict(),
            vision_config=self.source.vision_config.to_dict(),
            depth_config=self.depth.config.to_dict() if self.depth else None,
            projection_dim=self.source.projection_dim,
            temperature_init_value=float(str(temperature)),
            learn_temperature=False,  # the legacy loss did not use the parameter
        )

    def _assumed_heads(self, options: MultimodalOptions) -> list[Assumption]:
        config, told = self.source, options.heads
        towers = (
            ("text", config.text_config, options.text_model, told[0]),
            ("image", config.vision_config, options.vision_model, told[1]),
        )
        return [
            Assumption(
                quantity="heads",
                what=f"{tower.num_attention_heads} attention heads of {tower.hidden_size // tower.num_attention_heads}"
                f" channels in the {name} tower",
                options=("--text-model" if name == "text" else "--vision-model", "--attention-heads"),
            )
            for name, tower, model, heads in towers
            if model is None and heads is None
        ]

    def _assumed_normalisation(self) -> list[Assumption]:
        if self.sources["image_processor"] is not None:
            return []
        what = "mean 0.5 and standard deviation 0.5 of the images"
        return [Assumption("normalisation", what, ("--vision-model",), of_network=False)]

    def _assumed_temperature(self) -> list[Assumption]:
        if self.source.has_temperature:
            return []
        return [Assumption("temperature", f"temperature {LEGACY_TEMPERATURE}", (), of_network=False)]

    def _make_processor(self, options: MultimodalOptions) -> MultimodalEncoderProcessor:
        image_processor, found = read_image_processor("--vision-model", options.vision_model, self.source.vision_config)
        self.sources["image_processor"] = self.sources["vision_config"] if found else None
        tokenizer = None
        if options.tokenizer:
            tokenizer = read_tokenizer("--tokenizer", options.tokenizer, self.source.text_config)
            self.sources["tokenizer"] = file_name(options.tokenizer)
        elif options.text_model and has_tokenizer(options.text_model):
            tokenizer = read_tokenizer("--text-model", options.text_model, self.source.text_config)
            self.sources["tokenizer"] = self.sources["text_config"]
        elif options.allow_no_tokenizer:
            self.sources["tokenizer"] = None
        else:
            nor = f", nor does --text-model {options.text_model}" if options.text_model else ""
            raise LayoutError(
                f"{self.source.path}: holds no tokenizer{nor}; give BERT's with --tokenizer (a folder, a Hub id or its"
                " vocab.txt), or --allow-no-tokenizer to write a repo without one"
            )
        return MultimodalEncoderProcessor(image_processor=image_processor, tokenizer=tokenizer)
