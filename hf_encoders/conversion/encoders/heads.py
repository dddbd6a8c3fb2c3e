"""Tells a classifier that a person trained on an encoder, and that lies beside it under a name of no family."""

import re
from fnmatch import fnmatchcase

from transformers.configuration_utils import PreTrainedConfig

from ...hub.reports import UnusedHead
from ..plain_data import harmless
from .source import EncoderSource

_CLASSIFIES = "ForImageClassification"
_TRANSFORMERS = re.compile(r"(^|\.)(embeddings|embedder)\.")  # transformers' own names
# Heads of self-supervised training: they embed, and nobody misses them.
_OF_TRAINING = re.compile(
    r"(^|[._])(dino|ibot|proj\w*|predict\w*|prototypes?|last_layer|mlp|mask\w*|decoder|queue|aux\w*)"
)


def unused_head(source: EncoderSource, config: PreTrainedConfig) -> UnusedHead | None:
    """The linear layer that is left out and reads the encoder's embedding; None unless there is one alone.

    Args:
        source: an encoder of a family that has classifiers.
        config: of the encoder as it is written.
    """
    has_classifiers = source.plan.images is not None and "without_head" in source.family.options
    if not has_classifiers or _CLASSIFIES in source.plan.architecture:
        return None
    chosen = source.chosen
    beside = [member for network in (chosen.network, *chosen.others) for member in network.members]
    shapes = {member.key: tuple(member.weight.shape) for member in beside}
    left_out = [key for key in (*source.dropped, *chosen.dropped) if len(shapes.get(key, ())) > 1]
    if len(left_out) != 1:  # several layers are no head that has another name
        return None
    name, _, kind = left_out[0].rpartition(".")
    shape = shapes[left_out[0]]
    is_meant = any(fnmatchcase(left_out[0], pattern) for pattern in chosen.ignored) or _OF_TRAINING.search(name)
    if kind != "weight" or len(shape) != 2 or shape[1] != _width(config) or is_meant:
        return None
    is_of_transformers = any(_TRANSFORMERS.search(key) for key in source.source_keys.values())
    kept_as = chosen.network.prefix + ("classifier" if is_of_transformers else source.family.head)
    return {"name": harmless(name), "classes": shape[0], "kept_as": harmless(kept_as)}


def _width(config: PreTrainedConfig) -> int | None:
    """The dimension of the embedding: that of the last stage, where there are stages."""
    stages = getattr(config, "hidden_sizes", None)
    return stages[-1] if stages else getattr(config, "hidden_size", None)
