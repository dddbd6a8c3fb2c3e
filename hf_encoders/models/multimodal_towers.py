"""The towers of the multimodal encoder: any text or vision model of transformers, built, loaded and pooled alike.

A model whose code lies in its repo is one too, where a person trusts that code; see `join_code`.
"""

import copy
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar, cast, overload

import torch
from torch import Tensor
from transformers import MODEL_MAPPING, AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging

from .configuration_multimodal_encoder import embeds_by_itself
from .input_errors import InputError, one_line
from .modeling_depth_semantic_encoder import DepthSemanticEncoderModel
from .repo_code import needs_code
from .tower import pooler_output

logger = logging.get_logger(__name__)

# Vision transformers call the embedding of the token that stands for the whole image by one of these names.
_CLASS_TOKENS = {"cls_token", "class_token", "class_embedding"}
# Type of a model → why the same input is embedded differently each time.
RANDOM = {"vit_mae": "ViTMAEModel hides most of an image, another part each time"}
# A Hub id, a folder, or a model.
Source = str | os.PathLike[str] | PreTrainedModel
Part = Literal["text", "vision"]
Towers = dict[Part, PreTrainedModel]
# Where transformers imports the code of repos.
_REMOTE = "transformers_modules."
_TRUST = "trust_remote_code=True to MultimodalEncoderModel.from_towers"
# What a tower's `forward` is given.
_INPUTS: dict[Part, tuple[str, ...]] = {"text": ("input_ids", "attention_mask"), "vision": ("pixel_values",)}
_Tokenizer = TypeVar("_Tokenizer", PreTrainedTokenizerBase, PreTrainedTokenizerBase | None)
_Model = TypeVar("_Model", bound=PreTrainedModel)
# Towers → the class of a model in whose repo their code lies, and the towers of that code.
Join = Callable[[Towers], tuple[type[PreTrainedModel], Towers]]
_JOIN: list[Join] = []


def build_tower(config: PreTrainedConfig, own_class: type[PreTrainedModel] | None = None) -> PreTrainedModel:
    """Build a model with random weights, without a pooler that nothing here would use.

    Args:
        config: its configuration.
        own_class: its class, where the code of it lies beside that of the multimodal encoder.
    """
    if own_class is not None:  # as transformers does with the class that it finds in a repo
        AutoModel.register(type(config), own_class, exist_ok=True)
    # Some models, such as ResNet, have eager attention only, whatever the others use.
    options = {} if _model_class(config)._supports_sdpa else {"attn_implementation": "eager"}
    pooler = {"add_pooling_layer": False} if _has_optional_pooler(config) else {}
    tower = AutoModel.from_config(config, **options, **pooler)
    if pooler and not has_first_token(tower):  # then only the pooler sums up its input
        tower = AutoModel.from_config(config, **options)
    # One configuration object for both, so that a later change of the attention reaches the tower.
    config._attn_implementation = tower.config._attn_implementation
    tower.config = config
    return tower


def load_tower(source: Source, part: Part | None = None, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """Load a model with its weights from a Hub id or a folder, or copy a model; in float32, as it will be trained.

    Args:
        source: where from.
        part: the part that is taken of a model that has both, such as CLIP.
        trust_remote_code: run the repo's own code.

    Raises:
        OSError: if there is no such model.
        ValueError: if weights are missing in the repo, or the model would not be rebuilt as it is, is random, or needs
            code of its repo that is not trusted; if a network of code of its own reads other inputs.
    """
    tower = _load_or_copy(source, trust_remote_code)
    if part and isinstance(half := getattr(tower, f"{part}_model", None), PreTrainedModel):
        tower = half
    kind = tower.config.model_type
    if kind in RANDOM:
        raise ValueError(f"a {kind} cannot be a tower: {RANDOM[kind]}")
    if brings_code(tower.config):
        _check_inputs(tower, part)
    elif not isinstance(tower, rebuilt := _model_class(tower.config)):
        raise ValueError(
            f"a {type(tower).__name__} cannot be a tower: AutoModel loads it as a {rebuilt.__name__}, with random parts"
        )
    # A file in half precision beside new projections in float32 would be a model that fails at its first input.
    return tower.float() if not isinstance(source, PreTrainedModel) else tower


def load_towers(text: Source, vision: Source, *, trust_remote_code: bool = False) -> Towers:
    """Load the towers of texts and of images; see `load_tower`."""
    sources: dict[Part, Source] = {"text": text, "vision": vision}
    return {part: load_tower(one, part, trust_remote_code=trust_remote_code) for part, one in sources.items()}


def load_depth_tower(source: Source) -> DepthSemanticEncoderModel:
    """Load a depth semantic encoder, or copy it; see `load_tower`.

    Raises:
        OSError: if there is no such model.
        ValueError: if it is another model, or weights are missing.
    """
    name = (source.config.name_or_path or type(source).__name__) if isinstance(source, PreTrainedModel) else source
    expected = "expected one as the depth tower"
    try:
        tower = load_tower(source)
    except InputError as error:  # it is a network of somebody's own, whose code is not run
        raise ValueError(f"{name}: no depth semantic encoder, but a network of its own code; {expected}") from error
    if not isinstance(tower, DepthSemanticEncoderModel):
        raise ValueError(f"{name}: not a depth semantic encoder, {expected}")
    return tower


def _load_or_copy(source: Source, trust_remote_code: bool) -> PreTrainedModel:
    if isinstance(source, PreTrainedModel):
        if brings_code(source.config):
            return source  # joining builds it anew; not everybody's network can be copied
        tower = copy.deepcopy(source)
        if _without_pooler(tower.config):
            setattr(tower, "pooler", None)  # noqa: B010 - by its annotation, no module may be None
        return tower
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except OSError as error:
        raise OSError(f"{source}: cannot be loaded ({one_line(error)})") from error
    except ValueError as error:
        if not trust_remote_code and (needed := needs_code(os.fspath(source), "main", say=_TRUST)):
            raise needed from None
        raise ValueError(f"{source}: {one_line(error)}") from error
    pooler, verbosity = _without_pooler(config), logging.get_verbosity()
    logging.set_verbosity_error()  # transformers would print a table of the pooler's weights, which are left out
    try:
        tower, info = AutoModel.from_pretrained(
            source, config=config, trust_remote_code=trust_remote_code, output_loading_info=True, **pooler
        )
    finally:
        logging.set_verbosity(verbosity)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(f"{source}: its weights lack {missing[0]!r} ({len(missing)} tensors in all)")
    return tower


def brings_code(config: PreTrainedConfig) -> bool:
    """Whether a model's code lies in its repo."""
    return type(config).__module__.startswith(_REMOTE)


def _check_inputs(tower: PreTrainedModel, part: Part | None) -> None:
    """Refuse a network of somebody's own that needs other inputs than a tower gets."""
    if part is None:
        return
    name, stated = tower.config.name_or_path or type(tower).__name__, getattr(tower.config, "embeds", None)
    given, noun = _INPUTS[part], "texts" if part == "text" else "images"
    if stated not in (None, "text" if part == "text" else "image"):
        raise ValueError(f"{name}: embeds {stated}s, expected a network of {noun} as the {part} tower")
    parameters = inspect.signature(tower.forward).parameters.values()
    needed = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    if tower.main_input_name != given[0] or not set(needed) <= set(given):
        takes = ", ".join(needed) or tower.main_input_name
        raise ValueError(f"{name}: its forward needs {takes}, and the tower of {noun} gets {', '.join(given)}")


def register_join(join: Join) -> None:
    """Let something make the class of a model with towers whose code lies in their repos."""
    _JOIN[:] = [join]


def join_code(model_class: type[_Model], towers: Towers) -> tuple[type[_Model], Towers]:
    """The class of a model with these towers, and the towers as it builds them; both may be what was given.

    Raises:
        ImportError: if the code of a tower lies in its repo, and this package is not installed to copy it.
        ValueError: if it cannot be copied.
    """
    if not any(brings_code(tower.config) for tower in towers.values()):
        return model_class, towers
    if not _JOIN:
        raise ImportError("to join towers of their own code, pip install hf-encoders and `import hf_encoders` first")
    return cast("tuple[type[_Model], Towers]", _JOIN[0](towers))


@overload
def load_processor(auto_class: type[AutoImageProcessor], source: Source) -> BaseImageProcessor | None: ...


@overload
def load_processor(auto_class: type[AutoTokenizer], source: Source) -> PreTrainedTokenizerBase | None: ...


def load_processor(
    auto_class: type[AutoImageProcessor] | type[AutoTokenizer], source: Source
) -> BaseImageProcessor | PreTrainedTokenizerBase | None:
    """The tokenizer or image processor beside a tower's weights, or None if there is none."""
    name = source.config.name_or_path if isinstance(source, PreTrainedModel) else source
    if not name:
        return None
    try:
        needs = {"config": PreTrainedConfig()} if auto_class is AutoTokenizer and _is_unknown(name) else {}
        return auto_class.from_pretrained(name, trust_remote_code=False, **needs)
    except (OSError, ValueError) as error:
        logger.warning("%s: no %s found beside the tower (%s)", name, auto_class.__name__.removeprefix("Auto"), error)
        return None


def padding_as_read(tokenizer: _Tokenizer, tower: PreTrainedModel) -> _Tokenizer:
    """A tower's tokenizer, or None; where the tower reads all positions, it pads texts to its limit in a processor."""
    if tokenizer is not None and any(getattr(tower.config, name, False) for name in ("reads_padding", "pads_to_limit")):
        tokenizer.init_kwargs["padding"] = "max_length"
    return tokenizer


def _is_unknown(name: str | os.PathLike[str]) -> bool:
    """Whether a repo's configuration needs its code; the files of a tokenizer name its class without that."""
    try:
        AutoConfig.from_pretrained(name, trust_remote_code=False)
    except OSError:  # there is none
        return False
    except ValueError:
        return True
    return False


def current_names(model: PreTrainedModel, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Give a state dict the names in memory: the towers' files may have older ones, as ViT's do."""
    own = model.state_dict().keys()
    if state_dict.keys() <= own:
        return state_dict
    # These names are not public. They are imported here, so that without them only such a state dict fails.
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    renamings = [change for change in get_model_conversion_mapping(model) if isinstance(change, WeightRenaming)]
    return {
        name if name in own else rename_source_key(name, renamings, [])[0]: tensor
        for name, tensor in state_dict.items()
    }


def feature_size(config: PreTrainedConfig) -> int:
    """Dimension of the feature that a tower gives.

    Raises:
        ValueError: if the configuration does not say it.
    """
    sizes = getattr(config, "hidden_size", None) or (getattr(config, "hidden_sizes", None) or [None])[-1]
    if not isinstance(sizes, int):
        raise ValueError(f"a {config.model_type} tower has no hidden_size; expected a text or a vision model")
    return sizes


def has_first_token(tower: PreTrainedModel) -> bool:
    """Tell whether the first token of a tower stands for the whole input. Texts begin with such a token, images may."""
    names = (name.rpartition(".")[2] for name, _ in tower.named_parameters())
    return hasattr(tower.config, "vocab_size") or any(name in _CLASS_TOKENS for name in names)


def given_mask(tower: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor | None:
    """The mask of tokens [B, L]; a network that was adopted with one cannot do without."""
    if attention_mask is None and embeds_by_itself(tower.config):
        return torch.ones_like(input_ids)
    return attention_mask


def pooled(
    tower: PreTrainedModel,
    outputs: BaseModelOutputWithPooling,
    pooling: str,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Pool a tower's outputs to its feature [B, H].

    Args:
        tower: the model.
        outputs: what it returned, with `last_hidden_state` [B, L, H] or [B, H, h, w].
        pooling: "cls": the tower's own pooled output where it has one (CLIP normalises its first token there), else
            the first token, else the mean. "mean": the mean of the sequence where there is one. A network that embeds
            by itself gives its embedding.
        attention_mask: [B, L], zero where the mean leaves a token out.
    """
    if embeds_by_itself(tower.config):
        return pooler_output(outputs, {})
    hidden, own = hidden_state(outputs), outputs.get("pooler_output")
    if own is not None and (pooling == "cls" or hidden.ndim == 4):
        return own.flatten(1)
    if hidden.ndim == 3 and pooling == "cls" and has_first_token(tower):
        return hidden[:, 0]
    return mean_feature(hidden, attention_mask)


def hidden_state(outputs: BaseModelOutputWithPooling) -> Tensor:
    """The last hidden state; ValueError if there is none."""
    if outputs.last_hidden_state is None:
        raise ValueError("the model returns no hidden states to pool")
    return outputs.last_hidden_state


def mean_feature(hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """The mean [B, H] of a map [B, H, h, w], or of a sequence [B, L, H] where the mask [B, L] is not zero."""
    if hidden.ndim == 4:
        return hidden.mean((2, 3))
    if attention_mask is None:
        return hidden.mean(1)
    weights = attention_mask.to(hidden.dtype)[..., None]
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def with_feature(outputs: BaseModelOutputWithPooling, feature: Tensor) -> BaseModelOutputWithPooling:
    """A tower's output with the projected feature in the place of the pooled one."""
    return BaseModelOutputWithPooling(
        last_hidden_state=outputs.last_hidden_state,
        pooler_output=feature,
        hidden_states=outputs.get("hidden_states"),
        attentions=outputs.get("attentions"),
    )


def token_limit(tower: PreTrainedModel) -> int | None:
    """The most tokens that a text tower takes, or None if it has no limit of its own."""
    limit = getattr(tower.config, "max_position_embeddings", None)
    positions = next((m for n, m in tower.named_modules() if n.endswith("position_embeddings")), None)
    # RoBERTa and its kin count positions from the padding index on.
    padding = getattr(positions, "padding_idx", None)
    return limit if limit is None or padding is None else limit - padding - 1


def _without_pooler(config: PreTrainedConfig) -> dict[str, bool]:
    """Options that build a tower without a pooler, unless only the pooler sums up its input."""
    if brings_code(config) or not _has_optional_pooler(config):
        return {}
    with torch.device("meta"):
        first_token = has_first_token(_model_class(config)(config, add_pooling_layer=False))
    return {"add_pooling_layer": False} if first_token else {}


def _has_optional_pooler(config: PreTrainedConfig) -> bool:
    return "add_pooling_layer" in inspect.signature(_model_class(config).__init__).parameters


def _model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    try:
        found = MODEL_MAPPING[type(config)]
    except KeyError:
        found = None
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise ValueError(f"AutoModel builds no {config.model_type} model; expected a text or a vision model")
    return found
