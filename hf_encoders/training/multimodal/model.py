"""Builds the multimodal encoder to train: from a repo, from towers, or from a configuration."""

import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BertTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import ViTImageProcessorPil as ViTImageProcessor

from ...data.text_files import has_mark, read_text
from ...models.configuration_multimodal_encoder import MultimodalEncoderConfig, embeds_by_itself
from ...models.image_processing_depth import DepthImageProcessor
from ...models.input_errors import one_line
from ...models.modeling_multimodal_encoder import MultimodalEncoderModel
from ...models.multimodal_towers import brings_code, load_processor, load_tower, padding_as_read
from ...models.processing_multimodal_encoder import MultimodalEncoderProcessor
from ...models.repo_code import NeedsCodeError, needs_code
from ..checks import check_finite
from ..depth_units import with_units
from ..option_parser import as_mapping
from ..recipe import recipe_names
from .arguments import LossArguments, ModelArguments
from .smaller_text import with_layers, with_tokens
from .text_checks import check_tokenizer, warn_of_other_tokens


@contextmanager
def says_the_option() -> Iterator[None]:
    """Errors of code that may not run name the option of the command, whoever raises them. Also a decorator."""
    try:
        yield
    except NeedsCodeError as error:
        hint = "read it, then say --trust_remote_code"
        raise NeedsCodeError(path=error.path, reason=error.reason, hint=hint) from None


@says_the_option()
def build_model(
    options: ModelArguments, loss: LossArguments, seed: int, captions: Iterable[str] = ()
) -> MultimodalEncoderModel:
    """Build the model with its processor, on the CPU, in float32.

    Args:
        options: name it.
        loss: the temperature, for new projections.
        seed: decides on new weights.
        captions: texts whose tokens stay, where `--text_words` leaves others out.

    Raises:
        ValueError, OSError: if the options do not name one model, or a part cannot be loaded.
    """
    torch.manual_seed(seed)
    check_way(options)
    if options.init_from:
        model = _from_repo(options)
    elif options.model_config is not None:
        model = _from_config(options, captions)
    else:
        model = _from_towers(options, loss, captions)
    _set_units(model, options)
    source = options.tokenizer or options.init_from or options.text_model
    check_tokenizer(model, f"--tokenizer {source}" if options.tokenizer else source)
    check_finite(model, options.init_from or "the towers", "give weights from before they diverged")
    if options.gradient_checkpointing:
        _compute_activations_again(model)
    if options.freeze:
        model.freeze(options.freeze)
    return model.train()


def check_way(options: ModelArguments) -> None:
    """Refuse options that do not name one model.

    Raises:
        ValueError: if they name none, or several.
    """
    described = [] if options.model_config is None else as_mapping("model_config", options.model_config)
    is_twice = any(getattr(options, flag) and part in described for flag, part in options.towers.items())
    has_towers = bool(options.text_model or options.vision_model)
    ways = {
        "--init_from": bool(options.init_from),
        "--text_model and --vision_model": has_towers and (options.model_config is None or is_twice),
        "--model_config": options.model_config is not None,
    }
    if not any(ways.values()):
        recipes = ", ".join(recipe_names())
        raise ValueError(f"no model: give one of {', '.join(ways)}, or name a recipe that has one ({recipes})")
    if sum(ways.values()) != 1 or is_twice or (options.init_from and has_towers):
        raise ValueError(f"give one of {', '.join(ways)}: they say what is trained")
    if (options.text_layers or options.text_words) and not options.text_model:
        raise ValueError("--text_layers and --text_words make the tower of --text_model smaller, and none is given")


def _compute_activations_again(model: MultimodalEncoderModel) -> None:
    """Raises ValueError if no tower can; a warning names those that keep their activations."""
    towers = {name: module for name, module in model.named_children() if isinstance(module, PreTrainedModel)}
    modules = {name: list(tower.modules()) for name, tower in towers.items()}
    unable = [name for name in towers if not any(hasattr(one, "gradient_checkpointing") for one in modules[name])]
    if len(unable) == len(towers):
        raise ValueError(f"--gradient_checkpointing: neither {' nor '.join(towers)} can; leave it out")
    if unable:
        warnings.warn(f"--gradient_checkpointing: {' and '.join(unable)} cannot, and keep activations", stacklevel=2)
    model.gradient_checkpointing_enable()


def _set_units(model: MultimodalEncoderModel, options: ModelArguments) -> None:
    if options.units:
        model.require_depth_tower()
        model.processor.depth_image_processor = with_units(model.depth_processor, options)


def load_multimodal(source: str, *, trust_remote_code: bool = False) -> MultimodalEncoderModel:
    """Load a multimodal encoder with all of its weights, in float32.

    Args:
        source: Hub id or folder.
        trust_remote_code: run the repo's own code.

    Raises:
        ValueError, OSError: if it cannot be loaded, or is another model.
    """
    try:
        model, info = AutoModel.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True, trust_remote_code=trust_remote_code
        )
    except ValueError as error:
        if not trust_remote_code and (needed := needs_code(source, "main")):
            raise needed from None
        raise ValueError(f"{source}: {one_line(error)}") from error
    if not isinstance(model, MultimodalEncoderModel):
        raise ValueError(f"{source}: a {model.config.model_type} model, expected a multimodal encoder")
    if info["missing_keys"]:
        raise ValueError(f"{source}: its weights lack {min(info['missing_keys'])!r}")
    return model


def use_modalities(model: MultimodalEncoderModel, modalities: Collection[str]) -> None:
    """Freeze the towers of the modalities that the data lacks.

    Raises:
        ValueError: if the model cannot embed one of the modalities.
    """
    if "depth" in modalities:
        model.require_depth_tower()
    elif model.config.depth_config is not None:
        model.freeze(["depth_encoder", "depth_projection"])
    if "image" not in modalities:
        model.freeze(["visual_encoder", "visual_projection"])


def use_channels_last(model: MultimodalEncoderModel) -> None:
    """Lay weights out as convolutions are fastest, in place. Code of somebody's own may count on PyTorch's layout."""
    for module in model.children():
        if not (isinstance(module, PreTrainedModel) and brings_code(module.config)):
            # PyTorch documents this argument, but gives it no type.
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compile_towers(model: MultimodalEncoderModel) -> None:
    """Compile each tower by itself, in place: the code around them differs from modality to modality."""
    for name, module in model.named_children():
        if name.endswith("_encoder"):
            module.compile()


def _from_repo(options: ModelArguments) -> MultimodalEncoderModel:
    model = load_multimodal(options.init_from, trust_remote_code=options.trust_remote_code)
    model.config.zero_shot_calibration = None  # it is of the weights before the training
    _replace_tokenizer(model, options)
    if options.depth_model:
        model.add_depth_tower(options.depth_model, _depth_processor(options))
    return model


def _from_towers(options: ModelArguments, loss: LossArguments, captions: Iterable[str]) -> MultimodalEncoderModel:
    if not (options.text_model and options.vision_model):
        raise ValueError("--text_model and --vision_model go together")
    text, tokenizer = _text_tower(options, captions)
    model = MultimodalEncoderModel.from_towers(
        text,
        options.vision_model,
        options.depth_model or None,
        tokenizer=tokenizer,
        depth_processor=_depth_processor(options),
        projection_dim=options.projection_dim,
        temperature_init_value=loss.temperature,
        learn_temperature=loss.learn_temperature,
        trust_remote_code=options.trust_remote_code,
    )
    _replace_tokenizer(model, options)
    return model


def _text_tower(
    options: ModelArguments, captions: Iterable[str]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """The text tower that is named and its tokenizer, made smaller where that is asked for."""
    tower = load_tower(options.text_model, "text", trust_remote_code=options.trust_remote_code)
    tokenizer = load_processor(AutoTokenizer, options.text_model)
    if options.text_layers:
        tower = with_layers(tower, options.text_layers)
    if options.text_words:
        if tokenizer is None:
            raise ValueError(f"--text_words: no tokenizer lies beside {options.text_model}")
        words = [line for file in options.text_words for line in read_text(file).splitlines()]
        tower, tokenizer = with_tokens(tower, tokenizer, [*words, *captions])
    return tower, tokenizer


def _from_config(options: ModelArguments, captions: Iterable[str]) -> MultimodalEncoderModel:
    """A new model; the towers that are named have their weights."""
    settings = dict(as_mapping("model_config", options.model_config))
    towers: dict[str, PreTrainedModel] = {}
    tokenizer: PreTrainedTokenizerBase | None = None
    if options.text_model:
        towers["text_encoder"], tokenizer = _text_tower(options, captions)
        settings["text_config"] = towers["text_encoder"].config
    if options.vision_model:
        towers["visual_encoder"] = load_tower(
            options.vision_model, "vision", trust_remote_code=options.trust_remote_code
        )
        settings["vision_config"] = towers["visual_encoder"].config
    if own := [tower.config.name_or_path for tower in towers.values() if brings_code(tower.config)]:
        raise ValueError(
            f"{own[0]}: a network of its own code is no part of --model_config; give --text_model and --vision_model"
        )
    config = MultimodalEncoderConfig(**settings)
    if options.tokenizer:
        tokenizer = _tokenizer(options.tokenizer, config.tower_config("text"), options.trust_remote_code)
    if tokenizer is None:
        raise ValueError("a model from --model_config needs a --tokenizer")
    model = MultimodalEncoderModel(config)
    for name, tower in towers.items():
        setattr(model, name, tower)
    size = getattr(config.vision_config, "image_size", 224)
    images = {"size": {"height": size, "width": size}} | as_mapping("image_processor", options.image_processor)
    own_images = load_processor(AutoImageProcessor, options.vision_model) if options.vision_model else None
    depth_processor = model.processor.depth_image_processor
    model.processor = MultimodalEncoderProcessor(
        image_processor=own_images if own_images and not options.image_processor else ViTImageProcessor(**images),
        tokenizer=tokenizer,
        depth_image_processor=depth_processor and (_depth_processor(options) or depth_processor),
    )
    if options.depth_model:
        model.add_depth_tower(options.depth_model, _depth_processor(options))
    return model


def _depth_processor(options: ModelArguments) -> DepthImageProcessor | None:
    if options.depth_processor is None:
        return None
    return DepthImageProcessor(**as_mapping("depth_processor", options.depth_processor))


def _replace_tokenizer(model: MultimodalEncoderModel, options: ModelArguments) -> None:
    """Give a model the tokenizer that is asked for, if one is; one whose tokens are others is warned about."""
    if not (source := options.tokenizer):
        return
    own, config = model.processor.tokenizer, model.config.tower_config("text")
    tokenizer = padding_as_read(_tokenizer(source, config, options.trust_remote_code), model.text_encoder)
    if own is not None and embeds_by_itself(config):  # how long a text may be, only the network's own tokenizer knows
        tokenizer.model_max_length = min(tokenizer.model_max_length, own.model_max_length)
    model.processor.tokenizer = tokenizer
    warn_of_other_tokens(tokenizer, own, f"--tokenizer {source}")


def _tokenizer(source: str, text_config: PreTrainedConfig, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    limit = getattr(text_config, "max_position_embeddings", None)
    if Path(source).suffix == ".txt":
        words = read_text(source).split("\n")
        vocabulary = {word: index for index, word in enumerate(words) if word}
        return BertTokenizer(vocab=vocabulary, model_max_length=limit)
    vocabulary_file = Path(source) / "vocab.txt"
    if vocabulary_file.is_file() and has_mark(vocabulary_file):
        return _from_folder_in_utf8(Path(source))
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except ValueError:
        if not trust_remote_code and (needed := needs_code(source, "main", "tokenizer")):
            raise needed from None
        raise


def _from_folder_in_utf8(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder whose vocabulary has a byte order mark, which transformers takes for text."""
    with tempfile.TemporaryDirectory() as copy:
        for file in [*folder.glob("*.json"), *folder.glob("*.txt")]:
            Path(copy, file.name).write_text(read_text(file), encoding="utf-8", newline="\n")
        tokenizer = AutoTokenizer.from_pretrained(copy, trust_remote_code=False)
    tokenizer.name_or_path = ""
    return tokenizer
