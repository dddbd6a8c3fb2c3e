"""Carries a legacy AdamW state over by the names of the parameters, so that a training run can be resumed."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..checkpoints.errors import LayoutError
from ..checkpoints.finding.weights import LazyTensors, as_weight
from ..checkpoints.state_dicts import check_values
from ..hub.reports import Json, TrainingInfo

TRAINING_TENSORS, TRAINING_JSON = "training_state.safetensors", "training_state.json"
FORMAT_VERSION = 1
_HYPER_PARAMETERS = ("lr", "betas", "eps", "weight_decay")  # AdamW needs these
_MOMENTS, _LARGEST = ("exp_avg", "exp_avg_sq"), "max_exp_avg_sq"


class TrainingCheckpoint(Protocol):
    """A legacy checkpoint of either network, as far as its training state is concerned."""

    @property
    def path(self) -> Path:
        """Where it was read from."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Tensors by canonical name."""

    @property
    def parameter_names(self) -> list[str]:
        """Canonical names of all parameters, as the optimizer numbers them."""

    @property
    def optimizer_state(self) -> Mapping[str, object] | None:
        """The optimizer's state dict, if the file holds one."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """The file's other entries."""

    def has_network_order(self) -> bool:
        """Whether the file lists its parameters as the network defines them, because an optimizer numbers them so."""

    def model_name(self, canonical: str) -> str:
        """The name of a parameter in the model that the repo holds."""

    def is_dropped(self, canonical: str) -> bool:
        """Whether a parameter is not carried over, as nothing uses it."""

    def may_lack_state(self, canonical: str) -> bool:
        """Whether the legacy training never gave a parameter a gradient."""


def legacy_training_state(source: TrainingCheckpoint) -> tuple[dict[str, Tensor], TrainingInfo]:
    """Take the state of AdamW and the progress of the training out of a legacy checkpoint.

    Args:
        source: a training checkpoint.

    Returns:
        Tensors and plain data. Each parameter with a state has the tensors `NAME.exp_avg` and `NAME.exp_avg_sq` of its
        shape (and `NAME.max_exp_avg_sq` where AMSGrad was on) and the scalar `NAME.step`; NAME is its name in the
        repo's model. The plain data are `epoch`, `global_step` and `best_loss` (None where the file does
        not say), `optimizer` (its name and hyper-parameters; several groups make a list `groups`, each with its
        `parameters`), `parameters_without_state`, `dropped` (the states of poolers), and `format_version`.

    Raises:
        LayoutError: if there is no AdamW state, or not exactly one for each parameter that must have one.
    """
    if source.optimizer_state is None:
        raise LayoutError(
            f"{source.path}: holds no optimizer_state_dict, so training cannot go on from it; choose a training"
            " checkpoint such as checkpoint.pt"
        )
    names = source.parameter_names
    groups = _groups(source)
    entries = _entries(source)
    if not source.has_network_order():
        raise LayoutError(
            f"{source.path}: its parameters are not in the network's order, so the optimizer's numbers do not tell"
            " which state is whose; choose the file that the training wrote"
        )

    without = [name for number, name in enumerate(names) if number not in entries]
    lost = [name for name in without if not source.may_lack_state(name)]
    if lost:
        raise LayoutError(f"{source.path}: the optimizer has no state for {lost[0]!r} ({len(lost)} such parameters)")
    tensors: dict[str, Tensor] = {}
    for number, name in enumerate(names):
        if number in entries and not source.is_dropped(name):
            amsgrad = any(number in group.numbers and group.settings.get("amsgrad") for group in groups)
            for key, tensor in _checked_entry(source, name, entries[number], amsgrad):
                tensors[f"{source.model_name(name)}.{key}"] = tensor
    info: TrainingInfo = {
        "format_version": FORMAT_VERSION,
        "epoch": _count(source, "epoch"),
        "global_step": _count(source, "global_step"),
        "best_loss": _best_loss(source),
        "optimizer": {"name": "AdamW"} | _hyper_parameters(source, groups),
        "parameters_without_state": [source.model_name(name) for name in without if not source.is_dropped(name)],
        "dropped": [name for number, name in enumerate(names) if number in entries and source.is_dropped(name)],
    }
    return tensors, info


def check_training_state(repo: Path, model: nn.Module) -> None:
    """Check that every tensor of a written state belongs to a parameter of the model, and has its shape.

    Raises:
        LayoutError: if one does not.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for key, tensor in read_training_state(repo)[0].items():
        name, _, kind = key.rpartition(".")
        if name not in shapes or (kind != "step" and tensor.shape != shapes[name]):
            raise LayoutError(
                f"{repo / key}: the training state does not fit the model; this is a fault of the conversion, please"
                " report it"
            )


def write_training_state(folder: Path, tensors: Mapping[str, Tensor], info: Mapping[str, object]) -> None:
    """Write training_state.safetensors and training_state.json into a folder."""
    text = json.dumps(info, indent=2, allow_nan=False)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TRAINING_TENSORS)
    (folder / TRAINING_JSON).write_text(text + "\n", encoding="utf-8")


def read_training_state(folder: Path) -> tuple[dict[str, Tensor], TrainingInfo]:
    """Read what `write_training_state` wrote.

    Raises:
        ValueError: if the folder has none, or it is damaged or of another version.
    """
    for name in (TRAINING_JSON, TRAINING_TENSORS):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder}: has no {name}; convert a training checkpoint, which holds an optimizer's state"
            )
    try:
        info = json.loads((folder / TRAINING_JSON).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / TRAINING_JSON}: not valid JSON ({error})") from None
    version = info.get("format_version") if isinstance(info, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{folder / TRAINING_JSON}: of format version {version}, expected {FORMAT_VERSION}; convert the checkpoint"
            " again"
        )
    if lacking := TrainingInfo.__required_keys__ - info.keys():
        raise ValueError(f"{folder / TRAINING_JSON}: lacks {min(lacking)!r}; convert the checkpoint again")
    try:
        return load_file(folder / TRAINING_TENSORS), info
    except SafetensorError as error:
        raise ValueError(f"{folder / TRAINING_TENSORS}: damaged ({error}); convert the checkpoint again") from None


@dataclass(frozen=True)
class OptimizerGroup:
    """Settings of AdamW that some parameters share.

    Args:
        settings: the settings in their order, as JSON holds them.
        betas: AdamW's two, which JSON holds as a list.
        parameters: their names in the model; None for all parameters.
    """

    settings: Mapping[str, Json]
    betas: tuple[float, float]
    parameters: Sequence[str] | None = None


def optimizer_groups(info: TrainingInfo) -> list[OptimizerGroup]:
    """The groups of the optimizer in what `read_training_state` read."""
    optimizer = info["optimizer"]
    several = cast("Sequence[Mapping[str, Json]] | None", optimizer.get("groups"))
    groups = []
    for group in [optimizer] if several is None else several:
        first, second = cast(Sequence[float], group["betas"])
        settings = {name: value for name, value in group.items() if name not in ("name", "parameters")}
        parameters = cast("Sequence[str] | None", group.get("parameters"))
        groups.append(OptimizerGroup(settings, (first, second), parameters))
    return groups


@dataclass(frozen=True)
class _LegacyGroup:
    """A group of the file's optimizer: the numbers of its parameters, and its other entries."""

    numbers: Sequence[int]
    settings: Mapping[str, object]


def _groups(source: TrainingCheckpoint) -> list[_LegacyGroup]:
    """The optimizer's groups; together they number each parameter once."""
    assert source.optimizer_state is not None
    groups = source.optimizer_state.get("param_groups")
    if not isinstance(groups, list) or not all(
        isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups
    ):
        raise LayoutError(f"{source.path}: the optimizer's param_groups are not a list of groups with their params")
    numbers = [number for group in groups for number in group["params"]]
    count = len(source.parameter_names)
    if len(numbers) != count:
        raise LayoutError(
            f"{source.path}: the optimizer numbers {len(numbers)} parameters, the state dict holds {count}"
        )
    strange = [number for number in numbers if type(number) is not int or not 0 <= number < count]
    if strange or len(set(numbers)) != count:
        wrong = strange[0] if strange else next(number for number in numbers if numbers.count(number) > 1)
        raise LayoutError(
            f"{source.path}: the optimizer's groups hold a parameter {_shown(wrong)}, expected each of 0 to {count - 1}"
            " once"
        )
    return [
        _LegacyGroup(group["params"], {str(key): value for key, value in group.items() if key != "params"})
        for group in groups
    ]


def _entries(source: TrainingCheckpoint) -> Mapping[int, Mapping[str, object]]:
    assert source.optimizer_state is not None
    entries = source.optimizer_state.get("state")
    if not isinstance(entries, Mapping):
        raise LayoutError(f"{source.path}: the optimizer_state_dict holds no dictionary of states")
    count = len(source.parameter_names)
    for number, entry in entries.items():
        if type(number) is not int or not 0 <= number < count:
            raise LayoutError(f"{source.path}: the optimizer has a state for parameter {_shown(number)} of {count}")
        if not isinstance(entry, Mapping):
            name = source.parameter_names[number]
            raise LayoutError(f"{source.path}: the optimizer's state of {name!r} is a {type(entry).__name__}")
    return entries


def _checked_entry(
    source: TrainingCheckpoint, name: str, entry: Mapping[str, object], amsgrad: bool
) -> Iterator[tuple[str, Tensor]]:
    """Check and yield one parameter's moments and step."""
    expected = (*_MOMENTS, *([_LARGEST] if amsgrad or _LARGEST in entry else []))
    wrong = {*expected, "step"} ^ entry.keys()
    if wrong:
        what = ", ".join(_shown(key) for key in list(entry)[:5]) or "nothing"
        raise LayoutError(f"{source.path}: the optimizer's state of {name!r} is not AdamW's: it holds {what}")
    shape = source.tensors[name].shape
    for key in expected:
        where = f"the optimizer's {key} of {name!r}"
        if (weight := as_weight(entry[key])) is None:
            raise LayoutError(f"{source.path}: {where} is a {type(entry[key]).__name__}, expected a tensor")
        read = LazyTensors(source.path, {where: weight})
        check_values(source.path, read)
        moment = read[where]
        if moment.shape == (1,) and shape == ():  # like the temperature itself
            moment = moment.reshape(())
        if moment.shape != shape:
            raise LayoutError(f"{source.path}: {where} has shape {list(moment.shape)}, the parameter {list(shape)}")
        if key != "exp_avg" and (moment < 0).any():
            raise LayoutError(f"{source.path}: {where} holds negative numbers, expected a mean of squares")
        yield key, moment.detach()
    yield "step", torch.tensor(_step(source, name, entry["step"]), dtype=torch.float32)


def _step(source: TrainingCheckpoint, name: str, step: object) -> float:
    value = _number(step)
    if value is None or value < 0 or value != int(value):
        raise LayoutError(f"{source.path}: the optimizer's step of {name!r} is {_shown(step)}, expected a whole number")
    return value


def _hyper_parameters(source: TrainingCheckpoint, groups: Sequence[_LegacyGroup]) -> dict[str, Json]:
    """The hyper-parameters of each group; several groups also name their parameters."""
    plain = []
    for group in groups:
        values = {key: _plain(source, key, value) for key, value in group.settings.items()}
        missing = [key for key in _HYPER_PARAMETERS if key not in values]
        if missing or values.get("decoupled_weight_decay") is False:
            raise LayoutError(
                f"{source.path}: its optimizer is not AdamW"
                f" ({f'no {missing[0]}' if missing else 'weight decay is not decoupled'})"
            )
        _check_ranges(source, values)
        plain.append(values)
    if len(groups) == 1:
        return plain[0]
    all_names = source.parameter_names
    names = [
        [source.model_name(name) for number in group.numbers if not source.is_dropped(name := all_names[number])]
        for group in groups
    ]
    return {"groups": [{"parameters": group} | values for group, values in zip(names, plain, strict=True)]}


def _check_ranges(source: TrainingCheckpoint, values: Mapping[str, Json]) -> None:
    for key in ("lr", "eps", "weight_decay"):
        value = values[key]
        if not isinstance(value, (int, float)) or value < 0:
            raise LayoutError(
                f"{source.path}: the optimizer's {key!r} is {_shown(value)}, expected a number of 0 or more"
            )
    betas = values["betas"]
    if (
        not isinstance(betas, list)
        or len(betas) != 2
        or not all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in betas)
    ):
        raise LayoutError(
            f"{source.path}: the optimizer's betas are {betas!r:.40}, expected two numbers from 0 to below 1"
        )


def _plain(source: TrainingCheckpoint, key: str, value: object) -> Json:
    """The JSON form of a hyper-parameter."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(source, key, item) for item in value]
    number = _number(value)
    if number is None:
        raise LayoutError(f"{source.path}: the optimizer's {key!r:.40} is {_shown(value)}, expected a finite number")
    return int(value) if isinstance(value, Integral) else number


def _count(source: TrainingCheckpoint, key: str) -> int | None:
    """A number of epochs or steps; None where the file does not say."""
    if source.metadata.get(key) is None:
        return None
    number = _number(source.metadata[key])
    if number is None or number < 0 or number != int(number):
        raise LayoutError(f"{source.path}: its {key} is {_shown(source.metadata[key])}, expected a whole number")
    return int(number)


def _best_loss(source: TrainingCheckpoint) -> float | None:
    """The best loss so far; None where the file has none, or infinity, the value at the start of a training."""
    return _number(source.metadata.get("best_loss"))


def _number(value: object) -> float | None:
    """The finite number that a Python or NumPy number or a tensor of one element holds, or None."""
    if (weight := as_weight(value)) is not None:
        single = math.prod(weight.shape) == 1 and weight.kind == "dense"
        value = weight.read().item() if single else None
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond every float
        return None
    return number if math.isfinite(number) else None


def _shown(value: object) -> str:
    """A value from a file as part of one short line."""
    whole = isinstance(value, int) and abs(value) < 1 << 64  # Python refuses to print very large ones
    return (
        f"{value!r:.40}" if value is None or whole or isinstance(value, (float, str)) else f"a {type(value).__name__}"
    )
