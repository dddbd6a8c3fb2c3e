"""Averages of weights (EMA, SWA, teachers): how they are told from the weights themselves.

Some code bases keep the average in the same dictionary, under names without dots: MMCV's `ema_backbone_conv1_weight`
for `backbone.conv1.weight`, latent diffusion's `model_ema.backboneconv1weight` for `model.backbone.conv1.weight`. Such
names get their dots back here, and lie below a key of their own.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from .survey import FoundTensor, Keys

# Part of a path → it leads to an average, or to a network that follows another one slowly.
_AVERAGE = re.compile(
    r"(?i:(^|[_.\-])(ema\d*|swa|avg|averaged?|shadow|polyak|teacher|momentum|target|slow)(?=[_.*\-]|$))|_k(?=\.|$)"
    r"|(^|[^A-Z])(EMA|SWA)([A-Z][a-z]|$)"
)
_FLAT = re.compile(r"(ema_)(?=\w+$)|((?:\w+\.)*(?:model_)?ema\.)(?=\w+$)")
_SEPARATORS = re.compile(r"[._]")


def is_average(path: str) -> bool:
    """Whether a dotted path leads to an average of weights rather than to the weights."""
    return bool(_AVERAGE.search(path))


def with_dots(tensors: Sequence[FoundTensor]) -> list[FoundTensor]:
    """Give names without dots, as averages have them in some files, the dots of the weights that they average."""
    flat: dict[Keys, list[int]] = defaultdict(list)
    for number, tensor in enumerate(tensors):
        if _FLAT.match(tensor.keys[-1]):
            flat[tensor.keys[:-1]].append(number)
    result = list(tensors)
    for container, numbers in flat.items():
        names = _by_squeezed_name([t.keys[-1] for t in tensors if t.keys[:-1] == container])
        for number in numbers:
            key = tensors[number].keys[-1]
            match = _FLAT.match(key)
            assert match
            name = names.get(_squeezed(key[match.end() :]))
            if name is not None:
                keys = (*container, f"{match[0].rstrip('_.')}_*", *name.split("."))
                result[number] = replace(tensors[number], keys=keys, raw_key=key)
    return result


def _by_squeezed_name(keys: Sequence[str]) -> dict[str, str]:
    """Names without dots and underscores → the names, with and without their first part."""
    names: dict[str, str] = {}
    for key in keys:
        if "." in key and not _FLAT.match(key):
            names.setdefault(_squeezed(key), key)
            rest = key.partition(".")[2]
            names.setdefault(_squeezed(rest), rest)
    return names


def _squeezed(name: str) -> str:
    return _SEPARATORS.sub("", name)
