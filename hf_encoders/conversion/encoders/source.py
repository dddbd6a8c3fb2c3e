"""A file of one of the families of encoders, read and recognised: every tensor has its place, or an error says which.

The plan of the file's family is compared with the model of transformers that it names: each tensor of the model comes
from the file or is told to be made, and each tensor of the file is used or told to be dropped.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ...checkpoints.errors import LayoutError
from ...checkpoints.finding.choice import ChosenWeights
from ...checkpoints.finding.weights import LazyTensors
from ...checkpoints.state_dicts import check_names, rename
from ...models.input_errors import one_line
from ..families.encoders import ENCODERS
from ..families.family import EncoderOptions, Family, FileTensors, Plan
from ..families.moves import Move, apply, undo

# Option → its name in configurations.
_DECIDED = {
    "hidden_act": "hidden_act",
    "layer_norm_eps": "layer_norm_eps",
    "attention_heads": "num_attention_heads",
}


@dataclass(frozen=True)
class EncoderSource:
    """An encoder's file, read and recognised.

    Args:
        path: where it was read from.
        layout: the name of its family.
        wrapping: how the file holds the state dict.
        family: its family.
        plan: what becomes of its tensors.
        tensors: canonical name → tensor, of those that the plan moves. Each is read when it is asked for.
        source_keys: canonical name → key in the file, for `tensors` and for buffers that the model makes by itself.
        dropped: keys of the network that are not carried over.
        metadata: what the file says beside its weights.
        chosen: the weights that were taken, and what else is in the file.
        notes: what a person should know, one line each.
    """

    path: Path
    layout: str
    wrapping: str
    family: Family
    plan: Plan
    tensors: LazyTensors
    source_keys: dict[str, str]
    dropped: list[str]
    metadata: dict[str, object]
    chosen: ChosenWeights
    notes: list[str]


def recognise_encoder(chosen: ChosenWeights, family: Family, options: EncoderOptions) -> EncoderSource:
    """Recognise an encoder by the names and shapes of its tensors.

    Args:
        chosen: the weights of a file.
        family: the family of their network.
        options: what a person says about it.

    Raises:
        LayoutError: if tensors are missing, left over or of a shape that nothing explains, or if transformers' class
            cannot hold the network.
    """
    path = chosen.path
    for option in options.as_report():
        if option not in (*family.options, "layout"):
            raise LayoutError(f"{path}: a {family.label} has no --{option.replace('_', '-')}; leave it out")
    weights, keys = rename(path, chosen.network.members, family.canonical)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    values = LazyTensors(path, weights)
    beside = (*chosen.dropped, *(member.key for other in chosen.others for member in other.members))
    file = FileTensors(path, shapes, keys, values, chosen.metadata, chosen.network.path, chosen.classes, beside)
    family = ENCODERS[family.kin(file, options) or family.name]
    plan = family.plan(file, options)
    sources = {name for move in plan.moves for name in move.sources}
    kept = {name: key for name, key in keys.items() if name not in plan.dropped}
    check_names(path, kept, dict.fromkeys(name for move in plan.moves for name in move.sources), _verdict(plan, family))
    _check_model(path, plan, shapes, keys)
    _check_buffers(path, plan, values, keys)
    moved = {name for move in plan.moves if move.targets for name in move.sources}
    return EncoderSource(
        path=Path(path),
        layout=family.name,
        wrapping=chosen.wrapping,
        family=family,
        plan=plan,
        tensors=LazyTensors(path, {name: weights[name] for name in keys if name in moved}),
        source_keys={name: key for name, key in keys.items() if name in sources},
        dropped=[keys[name] for name in plan.dropped if name in keys],
        metadata=chosen.metadata,
        chosen=chosen,
        notes=list(plan.notes),
    )


def decided(source: EncoderSource, options: EncoderOptions) -> EncoderOptions:
    """The options with what the file stated beside the tensors, or was assumed: enough to plan again without the file.

    Args:
        source: the recognised file.
        options: what a person said.
    """
    settings = source.plan.settings
    towers = [settings[name] for name in ("text_config", "vision_config") if name in settings] or [settings]
    found = {option: [tower[name] for tower in towers if isinstance(tower, Mapping) and name in tower]
             for option, name in _DECIDED.items()}  # fmt: skip
    heads = tuple(number for number in found["attention_heads"] if isinstance(number, int))
    changes: dict[str, Any] = {name: values[0] for name, values in found.items() if values}
    changes["attention_heads"] = heads or None
    if settings.get("downsample_in_bottleneck"):
        changes["stride_in"] = "1x1"
    known = {name: value for name, value in changes.items() if name in source.family.options}
    return dataclasses.replace(options, **known, layout=source.layout)


def build(plan: Plan) -> PreTrainedModel:
    """The model of a plan, without memory for its weights.

    Raises:
        ValueError, TypeError: if its configuration is none.
    """
    kind = _architecture(plan)
    make_config = cast(Callable[..., PreTrainedConfig], kind.config_class)
    with torch.device("meta"):
        return kind(make_config(**plan.settings))


def _architecture(plan: Plan) -> type[PreTrainedModel]:
    return cast("type[PreTrainedModel]", getattr(transformers, plan.architecture))


def _check_model(path: Path, plan: Plan, shapes: Mapping[str, Sequence[int]], keys: Mapping[str, str]) -> None:
    """Compare the plan with the model: names and shapes."""
    try:
        model = build(plan)
    except (ValueError, TypeError, ArithmeticError, RuntimeError, LookupError) as error:
        raise LayoutError(f"{path}: no {plan.architecture} can be built from its sizes ({one_line(error)})") from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: torch.empty(tuple(shape), device="meta") for name, shape in shapes.items()}
    for move in plan.moves:
        for name, tensor in _moved(path, move, given, keys).items():
            wanted = expected.pop(name, None)
            if wanted is not None and tuple(tensor.shape) != wanted:
                source = move.sources[0] if move.sources else name
                raise LayoutError(
                    f"{path}: {keys.get(source, source)!r} has shape {list(shapes.get(source, tensor.shape))}, which"
                    f" becomes {list(tensor.shape)}; expected {list(wanted)} beside the other weights"
                )
    if expected:
        raise LayoutError(
            f"{path}: nothing gives {len(expected)} tensors of {plan.architecture}, {next(iter(expected))!r} first; it"
            " is a fault of the conversion, please report it"
        )


def _check_buffers(path: Path, plan: Plan, values: LazyTensors, keys: Mapping[str, str]) -> None:
    """Compare the buffers that the model makes by itself with those of the file."""
    for name, expected in undo([move for move in plan.moves if not move.targets], {}).items():
        buffer = values[name]
        same_form = buffer.layout == torch.strided and buffer.shape == expected.shape and not buffer.is_quantized
        if not same_form or not torch.equal(buffer.to(expected.dtype), expected):
            raise LayoutError(f"{path}: {keys[name]!r} is not what {plan.architecture} makes by itself in its place")


def _moved(path: Path, move: Move, given: Mapping[str, Tensor], keys: Mapping[str, str]) -> dict[str, Tensor]:
    try:
        with torch.device("meta"):
            return apply([move], given)
    except (RuntimeError, ValueError, IndexError) as error:
        source = move.sources[0] if move.sources else move.targets[0]
        raise LayoutError(
            f"{path}: {keys.get(source, source)!r} has a shape that does not fit ({one_line(error)})"
        ) from error


def _verdict(plan: Plan, family: Family) -> str:
    return f"not a whole {family.label or family.name} for {plan.architecture}"
