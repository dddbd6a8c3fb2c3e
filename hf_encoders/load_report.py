"""Weights of a repo that are left out on purpose, on one line in place of transformers' report: `load_body`."""

import logging
import os
from collections.abc import Collection
from typing import Any, TypedDict, cast

from transformers import AutoModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils.logging import get_logger

logger = get_logger(__name__)

# What transformers calls its report, in the log of the module that loads.
_REPORT = "LOAD REPORT"
POOLER = "pooler"


class LoadingInfo(TypedDict):
    """What transformers says of a load: names of weights that a repo lacks, and that it has beyond the model."""

    missing_keys: Collection[str]
    unexpected_keys: Collection[str]


def load_body(
    source: str | os.PathLike[str], config: PreTrainedConfig, **options: Any
) -> tuple[PreTrainedModel, LoadingInfo]:
    """Load a model without the head that it was trained with, such as a classifier, and say so on one line.

    Weights that are missing are reported as transformers does, but for a pooler's, which nobody makes up here; and so
    are weights beyond those of the model that are no head, such as more layers than the configuration has.

    Args:
        source: folder or Hub id.
        config: of the model.
        options: of `AutoModel.from_pretrained`.

    Raises:
        OSError: see `AutoModel.from_pretrained`, as for what else it raises.
    """
    held, of_loading = _Held(), logging.getLogger(PreTrainedModel.__module__)
    of_loading.addFilter(held)
    line = ""
    try:
        loaded = AutoModel.from_pretrained(source, config=config, output_loading_info=True, **options)
        model, info = cast(tuple[PreTrainedModel, LoadingInfo], loaded)
        line = _left_out(model, info)
    finally:
        of_loading.removeFilter(held)
        if not line:
            for record in held.records:
                of_loading.handle(record)
    if line and held.records:
        logger.warning("%s: %s", source, line)
    return model, info


def is_pooler(name: str) -> bool:
    """Whether a weight belongs to a pooler."""
    return name.split(".")[0] == POOLER or f".{POOLER}." in name


class _Held(logging.Filter):
    """Keeps transformers' report back."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        is_report = _REPORT in record.getMessage()
        if is_report:
            self.records.append(record)
        return not is_report


def _left_out(model: PreTrainedModel, info: LoadingInfo) -> str:
    """What is left out on purpose; empty where something else is missing or too much."""
    body = {name.split(".")[0] for name in model.state_dict()}
    # A model with a head calls its body by a name, such as "bert".
    beyond = [name.removeprefix(f"{model.base_model_prefix}.") for name in info["unexpected_keys"]]
    heads = {name.split(".")[0] for name in beyond}
    missing = info["missing_keys"]
    if heads & body or not all(map(is_pooler, missing)):
        return ""
    said = [f"a {type(model).__name__} is loaded"]
    if heads:
        trained = "".join(f" of a {name}" for name in (model.config.architectures or [])[:1])
        said.append(f"the head{trained} is left out ({', '.join(sorted(heads))})")
    if missing:
        said.append("there are no weights of a pooler, and it has none")
    return "; ".join(said)
