"""Makes the legacy training checkpoint of a multimodal repo."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from .depth_tower import PROJECTION, TOWER
from .families.legacy.multimodal_layouts import model_name
from .report import known_metadata
from .training_state import TRAINING_JSON, OptimizerGroup, optimizer_groups, read_training_state

_PROGRESS = ("epoch", "global_step")
_BEST_LOSS = "best_loss"


def multimodal_checkpoint(folder: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], list[str]]:
    """Make the dictionary that the legacy code saved.

    Args:
        folder: the repo.
        tensors: by canonical name, in the legacy order; a depth tower may be among them.

    Returns:
        The content of the file, and notes about missing parts, one sentence each.

    Raises:
        ValueError: if the repo's report or training state is damaged.
    """
    state_dict = {name: tensor for name, tensor in tensors.items() if not name.startswith((TOWER, PROJECTION))}
    known: Mapping[str, object] = known_metadata(folder)
    optimizer = None
    if (folder / TRAINING_JSON).is_file():
        moments, info = read_training_state(folder)
        known = {name: value for name, value in info.items() if value is not None}
        optimizer = _optimizer_state(list(state_dict), moments, optimizer_groups(info))
    content: dict[str, object] = {name: known[name] for name in _PROGRESS if name in known}
    content["model_state_dict"] = state_dict
    if optimizer is not None:
        content["optimizer_state_dict"] = optimizer
    if _BEST_LOSS in known:
        content[_BEST_LOSS] = known[_BEST_LOSS]
    notes = ["missing: the poolers of BERT and ViT, which the legacy code never used; load it with strict=False"]
    if len(state_dict) < len(tensors):
        notes.append("missing: the depth tower, which the legacy layout does not have")
    return content, notes


def _optimizer_state(
    names: Sequence[str], moments: Mapping[str, Tensor], groups: Sequence[OptimizerGroup]
) -> dict[str, object]:
    """Make AdamW's state dict; parameters are numbered in the order in which they are written."""
    state: dict[int, dict[str, Tensor]] = {}
    numbers = {model_name(name): number for number, name in enumerate(names)}
    for key, tensor in moments.items():
        name, _, kind = key.rpartition(".")
        if name in numbers:
            state.setdefault(numbers[name], {})[kind] = tensor
    param_groups = []
    for group in groups:
        named = numbers if group.parameters is None else group.parameters
        params = [numbers[name] for name in named if name in numbers]
        param_groups.append({**group.settings, "betas": group.betas, "params": params})
    return {"state": dict(sorted(state.items())), "param_groups": param_groups}
