"""The files that a checkpoint consists of."""

import dataclasses
import json
import re
from pathlib import Path

from ..checkpoints.finding.choice import ChosenWeights
from ..models.input_errors import InputError

_CONFIG = "config.json"
# What transformers calls the weights of a repo.
_WEIGHTS = re.compile(r"(model|pytorch_model)\b.*\.(safetensors|bin)(\.index\.json)?")


def source_files(path: Path) -> list[Path]:
    """The file, or all files of the folder."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def source_size(path: Path) -> int:
    """The bytes of all files together."""
    return sum(file.stat().st_size for file in source_files(path))


def with_config_beside(chosen: ChosenWeights) -> ChosenWeights:
    """The weights of a repo of transformers, with what its config.json says of them, unless the file says it itself.

    Raises:
        InputError: if config.json is no JSON.
    """
    path = Path(chosen.path)
    config = path / _CONFIG if path.is_dir() else path.with_name(_CONFIG)
    is_repo = config.is_file() and (path.is_dir() or _WEIGHTS.fullmatch(path.name))
    if not is_repo or "config" in chosen.metadata:
        return chosen
    try:
        stated = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            path=config, reason=f"no JSON ({error})", hint="move it away if it is not the weights'"
        ) from error
    if not isinstance(stated, dict) or "model_type" not in stated:
        return chosen
    note = f"{config} beside the weights is read for what they do not tell"
    return dataclasses.replace(chosen, metadata={**chosen.metadata, "config": stated}, notes=[*chosen.notes, note])
