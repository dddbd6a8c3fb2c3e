"""The arguments of a network's constructor: given as JSON, in a file, or taken from what a checkpoint says."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.finding.modules import as_mapping
from .errors import AdoptError

_SHOWN = 8


def given_arguments(text: str, option: str = "--kwargs") -> dict[str, object]:
    """Read `--kwargs`: JSON or YAML, or a file of it.

    Args:
        text: the JSON or YAML, or the name of its file.
        option: what gave it, for errors.

    Raises:
        AdoptError: if it is none, or no mapping of names to values.
    """
    shown = text if len(text) < 60 else f"{text[:60]}..."
    try:
        if text.endswith((".json", ".yaml", ".yml")):
            text = Path(text).read_text(encoding="utf-8")
        content = yaml.safe_load(text)  # JSON is YAML
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise AdoptError(name=option, reason=f"{shown!r} is no JSON or YAML ({why})") from None
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise AdoptError(name=option, reason=f"{shown!r} is no mapping of names to values")
    return {name: _value(option, name, value) for name, value in content.items()}


def arguments_in(checkpoint: Checkpoint, path: str) -> tuple[dict[str, object], list[str]]:
    """Read `--kwargs-from`: what a checkpoint says at a dotted path, such as `hyper_parameters` or `args.model`.

    Returns:
        The values that JSON holds, by name, and the names of the others.

    Raises:
        AdoptError: if there is nothing, or what is there is no mapping.
    """
    value: object = checkpoint.content
    for number, part in enumerate(path.split(".")):
        items = {str(name): each for name, each in as_mapping(value).items()}
        if part not in items:
            there = ", ".join(list(items)[:_SHOWN]) or "nothing by name"
            where = ".".join(path.split(".")[:number]) or "its top"
            reason = f"--kwargs-from {path}: no {part} at {where}; there are {there}"
            raise AdoptError(path=checkpoint.path, reason=reason)
        value = items[part]
    found = as_mapping(value)
    if not found:
        raise AdoptError(path=checkpoint.path, reason=f"--kwargs-from {path}: no mapping of names to values")
    plain: dict[str, object] = {}
    others: list[str] = []
    for name, each in found.items():
        try:
            plain[str(name)] = _value("", str(name), each)
        except AdoptError:
            others.append(str(name))
    return plain, others


def _value(name: str, key: str, value: object) -> object:
    """A value as JSON holds it.

    Raises:
        AdoptError: for one that it does not hold.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_value(name, key, item) for item in value]
    if isinstance(value, dict) or as_mapping(value):
        return {str(inner): _value(name, f"{key}.{inner}", item) for inner, item in as_mapping(value).items()}
    if isinstance(value, np.generic):
        return value.item()
    raise AdoptError(name=name, reason=f"{key} is a {type(value).__name__}, which JSON does not hold")
