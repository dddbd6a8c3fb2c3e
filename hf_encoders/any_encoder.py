"""Any encoder of transformers behind the methods that this project's own models have.

    encoder = load_encoder("facebook/dinov2-small")
    embeddings = encoder.encode_image(["chair.jpg", "table.jpg"])     # [2, 384]

Our own models are returned as they are.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging

from .encode_methods import EncodeMethods
from .image_sizes import SizedImageTower, at_side
from .load_report import POOLER, is_pooler, load_body
from .model_kinds import ModelKind, NotAnEncoderError, model_kind
from .models.input_errors import InputError, one_line
from .models.pixel_towers import DepthTower, ImageTower
from .models.repo_code import code_files, commit_of, needs_code, repo_file
from .models.text_tower import PROMPTS_FILE, TextTower, read_prompts
from .models.tower import Encoder, Modality, check_tower
from .places import check_places
from .sentence_encoder import sentence_encoder
from .towers import Pooling, default_pooling, make_tower

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.get_logger(__name__)

POOLINGS: tuple[Pooling, ...] = ("pooler", "cls", "mean")
_REPORT = "conversion_report.json"
Source = str | os.PathLike[str] | PreTrainedModel
_Part = TypeVar("_Part", PreTrainedTokenizerBase, BaseImageProcessor)
# Modality → what reads it, and the option that gives one.
_PARTS: dict[Modality, tuple[str, str]] = {
    "text": ("tokenizer", "tokenizer"),
    "image": ("image processor", "image-processor"),
    "depth": ("image processor", "image-processor"),
}
_READ_BY: dict[str, Modality] = {"tokenizer": "text", "image-processor": "image", "interpolate": "image"}
_FILES: dict[Modality, tuple[str, ...]] = {
    "text": ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model"),
    "image": ("preprocessor_config.json", "processor_config.json"),
    "depth": ("preprocessor_config.json",),
}
_SHOWN = 200  # characters of what transformers says of files
_OURS = ("depth_semantic_encoder", "multimodal_encoder")
_REMOTE = "transformers_modules."  # where transformers imports a repo's own code


class EncoderLoading(TypedDict, total=False):
    """The options of `load_encoder` for encoders of other libraries."""

    pooling: Pooling | None
    tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None
    image_processor: str | os.PathLike[str] | BaseImageProcessor | None
    interpolate: int | None
    trust_remote_code: bool


class AnyEncoder(EncodeMethods):
    """A model of transformers with towers; see `load_encoder`.

    Args:
        model: the network.
        kind: what it embeds.
        pooling: how its tokens become one vector; None for a model with features of its own.
        tokenizer: reads texts.
        image_processor: reads images, or depth maps.
        prompts: what goes before texts, by name: "query" in `encode_query`, "document" in `encode_document`.
        absent: why there is no processor for a modality, where something is to be said of it.
        interpolate: the side of the images, where it is not the model's own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        kind: ModelKind,
        pooling: Pooling | None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        image_processor: BaseImageProcessor | None = None,
        prompts: Mapping[str, str] | None = None,
        absent: Mapping[Modality, InputError] | None = None,
        interpolate: int | None = None,
    ):
        self.model, self.kind, self.pooling, self.prompts = model, kind, pooling, dict(prompts or {})
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self._absent, self.interpolate = dict(absent or {}), interpolate

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the network."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """The device of the weights, and of the embeddings."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.model.dtype

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights, by name."""
        return self.model.state_dict()

    def to(self, device: str | torch.device) -> "AnyEncoder":
        """Move the weights; returns the encoder."""
        module: torch.nn.Module = self.model
        module.to(device)
        return self

    @property
    def clamped_temperature(self) -> Tensor:
        """What the model divides cosines of texts and images by, a scalar: 1 / e^logit_scale, as CLIP calls it.

        Raises:
            ValueError: if it knows none.
        """
        scale, temperature = (getattr(self.model, name, None) for name in ("logit_scale", "temperature"))
        if isinstance(scale, Tensor):
            return (-scale.detach().float()).exp().squeeze()
        if isinstance(temperature, Tensor):  # ALIGN's
            return temperature.detach().float().squeeze()
        raise ValueError(f"a {type(self.model).__name__} has no temperature of texts and images")

    @property
    def towers(self) -> tuple[Modality, ...]:
        """What it embeds: "text", "image" or both; "depth"."""
        return self.kind.modalities

    def tower(self, name: str) -> TextTower | ImageTower | DepthTower:
        """The tower of a modality.

        Raises:
            ValueError: if it does not embed it, or there is no tokenizer or image processor for it.
        """
        check_tower(name, self.towers)
        modality = cast(Modality, name)  # one of its towers
        processor = self.tokenizer if modality == "text" else self.image_processor
        if processor is None:
            if error := self._absent.get(modality):
                raise error
            noun, option = _PARTS[modality]
            raise InputError(
                path=self.config.name_or_path or type(self.model).__name__,
                reason=f"has no {noun}",
                hint=f"give one as {option.replace('-', '_')}= (--{option}), a folder or Hub id",
            )
        side, unit = self.interpolate, self.kind.projects
        tower = make_tower(self.model, processor, modality, pooling=self.pooling, normalize=unit, interpolate=side)
        tower.pooling = self.pooling
        return tower

    def prompted_tower(self, name: str) -> TextTower:
        """The tower of texts with a prompt; see `EncodeMethods`."""
        return cast(TextTower, self.tower("text")).with_prompt(self.prompts.get(name, ""))


def load_encoder(
    source: "Source | SentenceTransformer",
    *,
    pooling: Pooling | None = None,
    tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None = None,
    image_processor: str | os.PathLike[str] | BaseImageProcessor | None = None,
    interpolate: int | None = None,
    revision: str = "main",
    trust_remote_code: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Encoder:
    """Load any encoder of texts, images or both that AutoModel or sentence-transformers loads.

    A repo with modules.json is opened by sentence-transformers, for the same embeddings as there.

    Args:
        source: Hub id, folder or model.
        pooling: how tokens become one vector: "cls", "mean" or "pooler" (the model's own pooled output). By default the
            class token of images where the model has one, else its pooled output; the mean of texts' tokens. A model
            with features of its own, such as CLIP, takes none. Given, it opens a repo of sentence-transformers as the
            plain transformer.
        tokenizer: instead of the one in the repo, or where it has none.
        image_processor: likewise.
        interpolate: embed images of this side in pixels: the image processor makes such squares, and a model whose
            positions are of another size interpolates them, as transformers does (`interpolate_pos_encoding=True`).
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the repo's own code. Without it nothing of a repo is executed.
        dtype: of the weights in memory, whatever that in the repo: most processors are slow in half precision, and
            embeddings would differ from machine to machine. A model that is given keeps its own.

    Returns:
        This project's own models as they are; a `SentenceEncoder` for modules; an `AnyEncoder` for others.

    Raises:
        NotAnEncoderError: for a model that embeds nothing, or embeds at random.
        InputError: if the repo needs its own code, weights are missing, or the pooling is not the model's to choose;
            if the model or its image processor has one size alone, and `interpolate` is another.
        OSError: if there is no such model.
    """
    check_places(source)
    if not isinstance(source, PreTrainedModel) and pooling is None:
        processors = any(option is not None for option in (tokenizer, image_processor, interpolate))
        found = sentence_encoder(source, revision, trust_remote_code, dtype, has_processors=processors)
        if found is not None:
            return found
    name = _name(cast(Source, source))
    if not isinstance(source, PreTrainedModel) and Path(name).is_file():
        raise InputError(path=name, reason="a file, expected a folder or Hub id", hint="hf-encoders convert makes one")
    source = cast(Source, source)
    if isinstance(source, PreTrainedModel):
        model = source
    else:  # every file is of one commit, whatever is pushed meanwhile
        revision = commit_of(name, revision) or revision
        model = _load(source, revision, trust_remote_code, dtype)
    given = {"tokenizer": tokenizer, "image-processor": image_processor, "interpolate": interpolate}
    if isinstance(model, Encoder):
        if pooling is not None:
            raise InputError(path=name, reason="one of our own models, which pools as it was trained to")
        _refuse_unused(name, given, "one of our own models, whose repo has what it reads inputs with")
        return model
    kind = model_kind(name, model.config, type(model))
    unread = {option: value for option, value in given.items() if _READ_BY[option] not in kind.modalities}
    _refuse_unused(name, unread, f"a {type(model).__name__} embeds {' and '.join(kind.modalities)} alone")
    beside = model.config.name_or_path if isinstance(source, PreTrainedModel) else source
    words = pictures = None
    absent: dict[Modality, InputError] = {}
    if "text" in kind.modalities:
        words = _processor("text", _read_tokenizer, tokenizer, beside, revision, trust_remote_code, absent)
    for modality in [one for one in kind.modalities if one != "text"]:
        look: Callable[..., BaseImageProcessor] = AutoImageProcessor.from_pretrained
        pictures = _processor(modality, look, image_processor, beside, revision, trust_remote_code, absent)
    prompts = read_prompts(repo_file(name, PROMPTS_FILE, revision)) if "text" in kind.modalities else {}
    pool = _pooling(name, model, kind, pooling, revision)
    if interpolate is not None and pictures is not None:
        pictures, interpolate = at_side(name, model.config, pictures, interpolate)
    encoder = AnyEncoder(model.eval(), kind, pool, words, pictures, prompts, absent, interpolate)
    if interpolate is not None:
        cast(SizedImageTower, encoder.tower("image")).check_size()
    return encoder


def _refuse_unused(name: str, given: Mapping[str, object], reason: str) -> None:
    for option, value in given.items():
        if value is not None:
            raise InputError(path=name, reason=reason, hint=f"leave --{option} out")


def _load(source: str | os.PathLike[str], revision: str, trust: bool, dtype: torch.dtype) -> PreTrainedModel:
    name = os.fspath(source)
    options = {"revision": revision, "trust_remote_code": trust}
    try:
        config = AutoConfig.from_pretrained(source, **options)
    except ValueError as error:
        if not trust and (needed := needs_code(name, revision)):
            raise needed from None
        raise InputError(path=name, reason=f"no model of transformers ({one_line(error)})") from error
    if config.model_type not in _OURS:  # ours name their commit themselves
        config._commit_hash = commit_of(name, revision)
    if config.model_type not in _OURS and not type(config).__module__.startswith(_REMOTE):
        model_kind(name, config)  # before its weights are downloaded
    brought = _unused_code(name, config, revision, trust)
    poolerless = {"add_pooling_layer": False} if _untrained_pooler(name, revision) else {}
    model, loading = load_body(source, config, dtype=dtype, **options)
    missing = sorted(loading["missing_keys"])
    if missing and all(map(is_pooler, missing)) and not poolerless:
        setattr(model, POOLER, None)  # noqa: B010 - random weights would make embeddings that differ each time
        missing = []
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            path=name,
            reason=f"AutoModel makes {missing[0]!r}{more} at random, since the repo has no such weights",
            hint=f"{brought}, and may be of another network: read it, then say --trust-remote-code" if brought else "",
        )
    if brought:
        logger.warning("%s: %s, which was not run: this is transformers' own %s", name, brought, type(model).__name__)
    return model


def _unused_code(name: str, config: PreTrainedConfig, revision: str, trust: bool) -> str:
    """What to say of a repo that brings code for a model that transformers has itself; empty if it brings none."""
    if trust or config.model_type in _OURS or "AutoModel" not in (getattr(config, "auto_map", None) or {}):
        return ""
    return f"the repo brings code of its own ({', '.join(code_files(name, revision))})"


def _pooling(
    name: str, model: PreTrainedModel, kind: ModelKind, wanted: Pooling | None, revision: str
) -> Pooling | None:
    if kind.projects:
        if wanted is not None:
            raise InputError(
                path=name, reason=f"a {type(model).__name__} pools its features by itself", hint="leave --pooling out"
            )
        return None
    if wanted not in (None, *POOLINGS):
        raise InputError(path=name, reason=f"pooling is one of {', '.join(POOLINGS)}, got {wanted!r}")
    has_pooler = getattr(model, POOLER, None) is not None or not hasattr(model, POOLER)
    if wanted == "pooler" and (not has_pooler or _untrained_pooler(name, revision)):
        raise InputError(
            path=name, reason="its pooler was never trained, so its output means nothing", hint="take cls or mean"
        )
    return wanted or default_pooling(model, kind.modalities)


def _untrained_pooler(name: str, revision: str) -> bool:
    """Whether a converted repo says that its pooler is made up."""
    path = repo_file(name, _REPORT, revision)
    try:
        return path is not None and POOLER in json.loads(path.read_text(encoding="utf-8")).get("untrained", [])
    except (OSError, ValueError, AttributeError):
        return False


def _read_tokenizer(place: str | os.PathLike[str], **options: object) -> PreTrainedTokenizerBase:
    """A tokenizer. Without files, transformers makes one that knows no word.

    Raises:
        ValueError: for such a one.
    """
    read: Callable[..., PreTrainedTokenizerBase] = AutoTokenizer.from_pretrained
    tokenizer = read(place, **options)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ValueError("no file of a vocabulary that fits")
    return tokenizer


def _processor(
    modality: Modality,
    read: Callable[..., _Part],
    given: str | os.PathLike[str] | _Part | None,
    source: str | os.PathLike[str] | None,
    revision: str,
    trust: bool,
    absent: dict[Modality, InputError],
) -> _Part | None:
    """The processor that a person gave, or the one beside the weights; without one None, and why in `absent`."""
    if given is not None and not isinstance(given, (str, os.PathLike)):
        return given
    check_places(given)
    if not (place := given or source):
        return None
    name, noun, option = os.fspath(place), *_PARTS[modality]
    revision = "main" if given else revision
    try:
        found = read(place, revision=revision, trust_remote_code=trust)
        if not trust and (files := code_files(name, revision, noun)):
            kind = type(found).__name__
            logger.warning("%s: %s", name, f"code of its {noun} ({', '.join(files)}) was not run: this is a {kind}")
        return found
    except Exception as error:  # whatever the files of a stranger raise
        if not trust and (needed := needs_code(name, revision, noun)):
            absent[modality] = needed
        elif given is None:
            hint = f"give one as {option.replace('-', '_')}= (--{option}), a folder or Hub id"
            there = _found_files(name, modality)
            why = one_line(error)
            why = f"{why[:_SHOWN]}..." if len(why) > _SHOWN else why
            reason = f"has {there}, which makes no {noun} ({why})" if there else f"has no {noun}"
            absent[modality] = InputError(path=name, reason=reason, hint=hint)
        else:
            is_file = Path(name).is_file()
            why = "a file, expected its folder or a Hub id" if is_file else f"no {noun} there ({one_line(error)})"
            absent[modality] = InputError(path=given, reason=why)
        if given is not None:
            raise absent[modality] from error
        return None


def _found_files(name: str, modality: Modality) -> str:
    """The files of a folder that belong to a processor, for a message."""
    there = [file for file in _FILES[modality] if (Path(name) / file).is_file()]
    return ", ".join(there) + (" alone" if len(there) == 1 else "") if there else ""


def _name(source: Source) -> str:
    if isinstance(source, PreTrainedModel):
        return source.config.name_or_path or type(source).__name__
    return os.fspath(source)


__all__ = ["AnyEncoder", "NotAnEncoderError", "load_encoder"]
