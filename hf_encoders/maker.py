"""What makes embeddings: all of a model that decides them, as digests that are kept beside what it made."""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from torch import nn
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .fingerprint import identity, settings_with_effect
from .modalities import Encoder

# Name → value, as plain JSON: see `maker`.
Maker: TypeAlias = dict[str, str | None]

_NOUNS = {"fingerprint": "weights", "adapters": "active adapters", "interpolate": "image size"}
_PROCESSOR = "_processor"


def maker(model: Encoder, modalities: Sequence[str] | None = None) -> Maker:
    """Everything of a model that decides its embeddings.

    Args:
        model: as it is now.
        modalities: those that are embedded; by default all of the model.

    Returns:
        `name_or_path` and `revision`, where the model came from; `fingerprint`, of every byte of the weights;
        `configuration`, pooling included; `pooling`, of another library's model; `interpolate`, the side of its images
        where it is not its own; `prompts`, where texts get any; `modules`, of one of sentence-transformers, with
        prompts and pooling; `adapters`, which of them are active and how; and for each modality a digest of its
        processor, such as `text_processor`.

    Raises:
        ValueError: if some weights are not in memory.
    """
    embedded = model.towers if modalities is None else modalities
    settings = getattr(model, "settings", None)
    prompts: Mapping[str, str] = getattr(model, "prompts", {}) if "text" in embedded and not settings else {}
    result: Maker = {
        **identity(model),
        "configuration": _digest(settings_with_effect(model.config.to_dict())),
        **({"pooling": pooling} if (pooling := getattr(model, "pooling", None)) else {}),
        **({"prompts": _digest(dict(prompts))} if any(prompts.values()) else {}),
        **({"modules": _digest(settings)} if settings else {}),
        "adapters": _digest(states) if (states := list(_adapters(model))) else None,
    }
    if "image" in embedded and (side := getattr(model, "interpolate", None)):
        result["interpolate"] = str(side)
    for modality in embedded:
        try:
            processor = model.tower(modality).processor
        except (OSError, ValueError):  # a model whose inputs are processed elsewhere
            result[modality + _PROCESSOR] = None
        else:
            result[modality + _PROCESSOR] = _digest(_preparing(processor))
    return result


def differences(before: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[str]:
    """What differs between two makers, in words: "weights", "text processor", "revision a, now b".

    Names of folders and repos do not count, nor a revision that only one of them knows.
    """
    names = [name for name in {**before, **now} if name not in ("name_or_path", "revision")]
    differing = [name for name in names if before.get(name) != now.get(name)]
    words = [_NOUNS.get(name, name.replace("_", " ")) for name in differing]
    known = before.get("revision"), now.get("revision")
    return [*words, f"revision {known[0]}, now {known[1]}"] if all(known) and known[0] != known[1] else words


def _preparing(processor: Any) -> object:
    """What decides how a processor prepares inputs, as plain data."""
    if not isinstance(processor, PreTrainedTokenizerBase):
        return {key: value for key, value in processor.to_dict().items() if key[0] != "_" and key != "auto_map"}
    rules: dict[str, Any] = processor.get_vocab()
    if isinstance(processor, PreTrainedTokenizerFast):
        all_rules: dict[str, Any] = json.loads(processor.backend_tokenizer.to_str())
        # The last call sets these two.
        rules = {key: value for key, value in all_rules.items() if key not in ("padding", "truncation")}
    sides = processor.padding_side, processor.truncation_side
    return [rules, processor.model_max_length, sides, processor.special_tokens_map]


def _adapters(model: object) -> Iterator[list[object]]:
    """Which adapters of PEFT each layer applies, and how strongly; their weights have a fingerprint."""
    if "peft" not in sys.modules or not isinstance(model, nn.Module):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in model.named_modules():
        if isinstance(layer, BaseTunerLayer):
            scales = getattr(layer, "scaling", {})
            yield [name, list(layer.active_adapters), layer.disable_adapters, list(layer.merged_adapters), dict(scales)]


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]
