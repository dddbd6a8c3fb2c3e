"""Any encoder of transformers behind the methods that this project's own models have.

    encoder = load_encoder("facebook/dinov2-small")
    embeddings = encoder.encode_image(["chair.jpg", "table.jpg"])     # [2, 384]

Our own models are returned as they are.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, Unpack, cast

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .model_kinds import ModelKind, NotAnEncoderError, model_kind
from .models.encoding import BackendName, DtypeName, Encoded, EncodeOptions, Pictures, Texts, encode_method
from .models.input_errors import InputError, one_line
from .models.multimodal_towers import has_first_token
from .models.pixel_towers import ImageTower
from .models.text_tower import TextTower
from .models.tower import Encoder, Modality, check_tower, prepare_towers
from .towers import Pooling, make_tower

POOLINGS: tuple[Pooling, ...] = ("pooler", "cls", "mean")
_REPORT, _POOLER = "conversion_report.json", "pooler"
Source = str | os.PathLike[str] | PreTrainedModel
_Part = TypeVar("_Part", PreTrainedTokenizerBase, BaseImageProcessor)


class EncoderLoading(TypedDict, total=False):
    """The options of `load_encoder` for encoders of other libraries."""

    pooling: Pooling | None
    tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None
    image_processor: str | os.PathLike[str] | BaseImageProcessor | None
    trust_remote_code: bool


class AnyEncoder:
    """A model of transformers with towers; see `load_encoder`.

    Args:
        model: the network.
        kind: what it embeds.
        pooling: how its tokens become one vector; None for a model with features of its own.
        tokenizer: reads texts.
        image_processor: reads images.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        kind: ModelKind,
        pooling: Pooling | None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        image_processor: BaseImageProcessor | None = None,
    ):
        self.model, self.kind, self.pooling = model, kind, pooling
        self.tokenizer, self.image_processor = tokenizer, image_processor

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
    def towers(self) -> tuple[Modality, ...]:
        """What it embeds: "text", "image" or both."""
        return self.kind.modalities

    def tower(self, name: str) -> TextTower | ImageTower:
        """The tower of a modality.

        Raises:
            ValueError: if it does not embed it, or there is no tokenizer or image processor for it.
        """
        check_tower(name, self.towers)
        processor = self.tokenizer if name == "text" else self.image_processor
        if processor is None:
            what, option = ("tokenizer", "tokenizer") if name == "text" else ("image processor", "image_processor")
            raise InputError(
                path=self.config.name_or_path or type(self.model).__name__,
                reason=f"has no {what}",
                hint=f"give one as {option}= (--{option.replace('_', '-')}), a folder or Hub id",
            )
        modality: Literal["text", "image"] = "text" if name == "text" else "image"
        tower = make_tower(self.model, processor, modality, pooling=self.pooling, normalize=self.kind.projects)
        tower.pooling = self.pooling
        return tower

    @encode_method
    def encode_text(self, inputs: Texts, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed texts: [N, D]; see `MultimodalEncoderModel.encode_text`."""
        return self.tower("text").encode(inputs, batch_size, **options)

    @encode_method
    def encode_image(self, inputs: Pictures, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed images: [N, D]; see `MultimodalEncoderModel.encode_image`."""
        return self.tower("image").encode(inputs, batch_size, **options)

    def prepare(
        self,
        modalities: Modality | Sequence[Modality] | None = None,
        *,
        backend: BackendName = "openvino",
        dtype: DtypeName | torch.dtype | None = None,
    ) -> None:
        """Load and compile now, so that the first request does not wait for it."""
        prepare_towers(self, modalities, backend, dtype)


def load_encoder(
    source: Source,
    *,
    pooling: Pooling | None = None,
    tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None = None,
    image_processor: str | os.PathLike[str] | BaseImageProcessor | None = None,
    revision: str = "main",
    trust_remote_code: bool = False,
    dtype: torch.dtype | None = None,
) -> Encoder:
    """Load any encoder of texts, images or both that AutoModel loads.

    Args:
        source: Hub id, folder or model.
        pooling: how tokens become one vector: "cls", "mean" or "pooler" (the model's own pooled output). By default the
            class token of images where the model has one, else its pooled output; the mean of texts' tokens. A model
            with features of its own, such as CLIP, takes none.
        tokenizer: instead of the one in the repo, or where it has none.
        image_processor: likewise.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run the repo's own code. Without it nothing of a repo is executed.
        dtype: of the weights in memory; by default that of the repo. A model that is given keeps its own.

    Returns:
        This project's own models as they are; an `AnyEncoder` for others.

    Raises:
        NotAnEncoderError: for a model that embeds nothing, or embeds at random.
        InputError: if the repo needs its own code, weights are missing, or the pooling is not the model's to choose.
        OSError: if there is no such model.
    """
    model = source if isinstance(source, PreTrainedModel) else _load(source, revision, trust_remote_code, dtype)
    if isinstance(model, Encoder):
        if pooling is not None:
            raise InputError(path=_name(source), reason="one of our own models, which pools as it was trained to")
        return model
    name = _name(source)
    kind = model_kind(name, model.config)
    beside = model.config.name_or_path if isinstance(source, PreTrainedModel) else source
    words = pictures = None
    if "text" in kind.modalities:
        read: Callable[..., PreTrainedTokenizerBase] = AutoTokenizer.from_pretrained
        words = _processor("tokenizer", read, tokenizer, beside, revision, trust_remote_code)
    if "image" in kind.modalities:
        look: Callable[..., BaseImageProcessor] = AutoImageProcessor.from_pretrained
        pictures = _processor("image processor", look, image_processor, beside, revision, trust_remote_code)
    return AnyEncoder(model.eval(), kind, _pooling(name, model, kind, pooling, revision), words, pictures)


def _load(source: str | os.PathLike[str], revision: str, trust: bool, dtype: torch.dtype | None) -> PreTrainedModel:
    name = os.fspath(source)
    options = {"revision": revision, "trust_remote_code": trust}
    try:
        config = AutoConfig.from_pretrained(source, **options)
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise _needs_code(name, revision) from None
        raise InputError(path=name, reason=f"no model of transformers ({one_line(error)})") from error
    if config.model_type not in ("depth_semantic_encoder", "multimodal_encoder"):
        model_kind(name, config)  # before its weights are downloaded
    poolerless = {"add_pooling_layer": False} if _untrained_pooler(name, revision) else {}
    precision = {} if dtype is None else {"dtype": dtype}
    model, loading = AutoModel.from_pretrained(source, config=config, output_loading_info=True, **options, **precision)
    missing = sorted(loading["missing_keys"])
    if missing and all(key.split(".")[0] == _POOLER or f".{_POOLER}." in key for key in missing) and not poolerless:
        setattr(model, _POOLER, None)  # noqa: B010 - random weights would make embeddings that differ each time
        missing = []
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            path=name, reason=f"AutoModel makes {missing[0]!r}{more} at random, since the repo has no such weights"
        )
    return cast(PreTrainedModel, model)


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
    has_pooler = getattr(model, _POOLER, None) is not None or not hasattr(model, _POOLER)
    if wanted == "pooler" and (not has_pooler or _untrained_pooler(name, revision)):
        raise InputError(
            path=name, reason="its pooler was never trained, so its output means nothing", hint="take cls or mean"
        )
    if wanted is not None:
        return wanted
    if kind.modalities == ("text",):
        return "mean"
    return "cls" if has_first_token(model) else "pooler"


def _untrained_pooler(name: str, revision: str) -> bool:
    """Whether a converted repo says that its pooler is made up."""
    try:
        path = Path(name) / _REPORT if Path(name).is_dir() else Path(hf_hub_download(name, _REPORT, revision=revision))
        return _POOLER in json.loads(path.read_text(encoding="utf-8")).get("untrained", [])
    except (OSError, ValueError, AttributeError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
        return False


def _processor(
    noun: str,
    read: Callable[..., _Part],
    given: str | os.PathLike[str] | _Part | None,
    source: str | os.PathLike[str] | None,
    revision: str,
    trust: bool,
) -> _Part | None:
    """The processor that a person gave, or the one beside the weights; None without one."""
    if given is not None and not isinstance(given, (str, os.PathLike)):
        return given
    place = given or source
    if not place:
        return None
    try:
        return read(place, revision="main" if given else revision, trust_remote_code=trust)
    except Exception as error:  # whatever the files of a stranger raise
        if given is None:
            return None
        raise InputError(path=given, reason=f"no {noun} there ({one_line(error)})") from error


def _needs_code(name: str, revision: str) -> InputError:
    """The error of a repo that needs its own code: it says which files would run."""
    files = "its own code"
    try:
        path = (
            Path(name) / "config.json"
            if Path(name).is_dir()
            else Path(hf_hub_download(name, "config.json", revision=revision))
        )
        mapping = json.loads(path.read_text(encoding="utf-8")).get("auto_map", {})
        modules = sorted({str(value).split("--")[-1].split(".")[0] + ".py" for value in mapping.values()})
        files = ", ".join(modules) or files
    except (OSError, ValueError, AttributeError):
        pass
    return InputError(
        path=name,
        reason=f"needs code of its repo ({files}), which was not run",
        hint="read it, then say --trust-remote-code",
    )


def _name(source: Source) -> str:
    return (
        (source.config.name_or_path or type(source).__name__)
        if isinstance(source, PreTrainedModel)
        else os.fspath(source)
    )


__all__ = ["AnyEncoder", "NotAnEncoderError", "load_encoder"]
