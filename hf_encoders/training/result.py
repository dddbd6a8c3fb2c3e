"""The result of a run: a repo with a card, beside the run's checkpoints and logs, and on the Hub."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..hub.card_curves import read_curves
from ..hub.complete import complete_repo
from ..hub.contents import repo_contents
from ..hub.push import Destination, fetch_card, push
from ..models.tower import is_finite
from ..outputs import new_files
from .recipe import as_recipe

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LOGS = "logs"
_SOURCES = ("init_from", "text_model", "vision_model", "depth_model", "teacher", "text_teacher")


def publish(model: PreTrainedModel, output_dir: Path, dtype: str = "") -> None:
    """Save a model and its processor beside the run's checkpoints and logs; half of a model is never seen there.

    Args:
        model: stays as it is.
        output_dir: of the run.
        dtype: what the weights are saved in, such as "float16"; by default as they are. The configuration keeps the
            model's own, in which it is loaded: processors without half precision compute in it far slower.

    Raises:
        ValueError: if a weight is too large for it.
    """
    weights = None
    if dtype:
        weights = _in_dtype(model.state_dict(), getattr(torch, dtype))
        if name := next((name for name, tensor in weights.items() if not is_finite(tensor)), None):
            hint = "save float32 or bfloat16, which have larger numbers"
            raise ValueError(f"--save_dtype {dtype}: {name} holds NaN or infinity; {hint}")
    with new_files(output_dir) as partial:
        model.save_pretrained(partial, state_dict=weights)


def _in_dtype(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights in another precision; those that share memory still share it, so that they are saved once."""
    made: dict[tuple[object, ...], Tensor] = {}
    converted: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        place = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        converted[name] = made.setdefault(place, tensor.to(dtype) if tensor.is_floating_point() else tensor)
    return converted


def present(output_dir: Path, options: "Sequence[DataclassInstance]", curves: Sequence[str]) -> None:
    """Write README.md beside the model of a run, and push both if the run asks for it; one process calls this.

    A card that cannot be written, because a file there is of another model, does not fail a finished run: the reason is
    printed.

    Args:
        output_dir: of the run.
        options: its dataclasses of options.
        curves: names of logged scalars.

    Raises:
        PushError: if the Hub refuses or cannot be reached.
    """
    values = {name: value for part in options for name, value in asdict(part).items()}
    dataset, repo_id = values["dataset"], values.get("push_to_hub")
    destination = Destination(repo_id) if repo_id else None
    if destination:
        fetch_card(output_dir, destination)
    try:
        complete_repo(
            output_dir,
            remote_code=bool(destination),
            name=repo_id or None,
            datasets=[dataset] if isinstance(dataset, str) else dataset,
            base_model=[values[name] for name in _SOURCES if values.get(name)],
            recipe=as_recipe(options),
            curves=read_curves(output_dir / LOGS, curves),
        )
    except ValueError as error:
        tqdm.write(f"no card was written: {error}")
    if destination:
        if left_out := repo_contents(output_dir).left_out_line():
            tqdm.write(f"left out of the push: {left_out}")
        tqdm.write(f"pushed to {push(output_dir, destination)}")
