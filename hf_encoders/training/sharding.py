"""FSDP2 and DeepSpeed: weights are spread over the processes, and brought together to validate or save a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Literal

from accelerate import Accelerator, DistributedType
from accelerate.utils import convert_to_fp32
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel
from transformers.utils import ModelOutput

Sharding = Literal["no sharding", "FSDP", "DeepSpeed"]


class Shardable(nn.Module):
    """A model and its loss as one module: FSDP2 and DeepSpeed take one, and an optimizer of its parameters only.

    Weights are communicated in float32 and autocast where they are used. So rounding is as without FSDP2, and
    BatchNorm's statistics keep the type of its weights.

    Args:
        accelerator: prepares this module next.
        model: a multimodal encoder; it is changed in place.
        loss: its parameters are trained too.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, loss: nn.Module):
        super().__init__()
        self.model, self.loss = model.to(accelerator.device), loss
        self._accelerator = accelerator
        classes = {type(module).__name__ for module in model.modules()}
        # Modules that FSDP2 gathers at a time. Towers may name classes that they do not have.
        self._no_split_modules = sorted(classes.intersection(getattr(model, "_no_split_modules", None) or ()))

    def forward(self, **inputs: Tensor) -> ModelOutput:
        """Call the model."""
        with self._accelerator.autocast():
            return convert_to_fp32(self.model(**inputs))

    @property
    def clamped_temperature(self) -> Tensor:
        """The model's temperature."""
        return self.model.clamped_temperature  # type: ignore[return-value]  # mypy takes it for a sub-module


def kind_of(accelerator: Accelerator) -> Sharding:
    """What spreads the state of a run over its processes, if anything does."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return "DeepSpeed"
    return "FSDP" if accelerator.is_fsdp2 else "no sharding"


def kind_of_files(folder: Path) -> Sharding:
    """The same of the run that wrote a checkpoint: the names are Accelerate's."""
    if (folder / "pytorch_model").is_dir():
        return "DeepSpeed"
    return "FSDP" if any(folder.glob("pytorch_model_fsdp*")) else "no sharding"


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether the processes share the weights or the optimizer, so that all take part in each call of the model."""
    return kind_of(accelerator) != "no sharding"


def shard(accelerator: Accelerator, model: nn.Module, loss: nn.Module, averages: AveragedModel | None) -> nn.Module:
    """Return the module that the accelerator prepares: the model, or model and loss in one where they are sharded.

    Args:
        accelerator: of the run. Its FSDP learns which parameters it cannot shard.
        model: a multimodal encoder.
        loss: see `Shardable`.
        averages: averages of the model's weights, if there are any; they are sharded alike.
    """
    if not is_sharded(accelerator):
        return model
    shardable = Shardable(accelerator, model, loss)
    if accelerator.is_fsdp2:
        plugin = accelerator.state.fsdp_plugin
        plugin.mixed_precision_policy = None
        # A scalar has no dimension to shard. The loss averages its gradient over the processes.
        plugin.ignored_modules = [nn.ParameterList(_scalars(shardable))]
        if averages is not None:
            fully_shard(averages.module, ignored_params=set(_scalars(averages.module)))
        return shardable
    for module in (shardable, averages):
        for parameter in _scalars(module) if module is not None else ():
            parameter.data = parameter.data[None]  # DeepSpeed views weights as bytes, and a scalar has no such view
    return shardable


class WholeModel:
    """Brings the weights of a sharded model together.

    Args:
        accelerator: of the run.
        model: the model before it is sharded; it is copied, if it will be. Scalars stay scalars in the copy.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module):
        self._device = accelerator.device
        self._copy = deepcopy(model).cpu() if is_sharded(accelerator) else None

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[nn.Module]:
        """The model, or a copy with its present weights; every process calls this, and gets the whole model."""
        if self._copy is None:
            yield model
            return
        self._copy.load_state_dict(whole_state(model))
        yield self._copy.to(self._device)
        self._copy.cpu()


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state with whole tensors; every process calls this."""
    state = module.state_dict()
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in state.items()}


def load_whole_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `whole_state` returned into a module, sharded or not; every process calls this."""
    if any(isinstance(value, DTensor) for value in module.state_dict().values()):
        set_model_state_dict(module, dict(state), options=StateDictOptions(full_state_dict=True))
    else:  # without a process group
        module.load_state_dict(state)


def _scalars(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if not parameter.ndim]
