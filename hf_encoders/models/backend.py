"""Backends compute the embeddings of `encode`. PyTorch is here; the package registers compiled programs."""

import functools
import inspect
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, get_args

import torch
from torch import Tensor, nn
from transformers.utils import logging

from .encoding import BackendName, DtypeName
from .input_batches import Batch, Skipped

if TYPE_CHECKING:
    from .tower import Tower

logger = logging.get_logger(__name__)

# On a CPU, the activations of a larger batch pass 32 MB. For so much memory glibc asks the system in every layer, and
# a third of the time goes into clearing its pages. Small networks want larger batches: their activations fit, and
# Python's share of the time counts.
_INPUTS_PER_THREAD = 8
_LARGE = 10_000_000
# Names in /proc/cpuinfo: of x86, then of ARM.
_HERE = Path(__file__).parent
_FLAGS = {
    torch.bfloat16: {"avx512_bf16", "amx_bf16", "bf16"},
    torch.float16: {"avx512_fp16", "amx_fp16", "fphp", "asimdhp"},
}
# What PyTorch may use of an x86 processor; less than AVX-512 has neither precision.
_WITHOUT_BOTH = {"NO AVX", "DEFAULT", "AVX2"}
_X86 = {"x86_64", "AMD64", "i386", "i686"}
_CPUINFO = Path("/proc/cpuinfo")


class Backend(Protocol):
    """Embeds batches.

    Attributes:
        max_batch: how many inputs a batch has at most, because larger ones are slower; None where any size is good.
    """

    max_batch: int | None

    def embed(self, batches: Iterator[Batch]) -> Iterator[tuple[list[int], Tensor]]:
        """Batches → their indices and embeddings [B, D], in any order."""


# A tower, the backend and the precision (None: as the weights) → what computes it.
Compile = Callable[["Tower", str, str | None], Backend]
# A tower and the number of inputs, if it is known → the backend that embeds them soonest.
Choose = Callable[["Tower", int | None], BackendName]
# Code that travels with a repo has PyTorch alone: the package registers what compiles towers.
_COMPILERS: dict[str, Compile] = {}
_CHOOSE: list[Choose] = []
_FOLD: list[Callable[["Tower"], Backend | None]] = []
_SPREAD: list[Callable[["Tower", list[str]], "Compute"]] = []


def register_compiler(backend: BackendName, compile_tower: Compile) -> None:
    """Let a backend compile towers."""
    _COMPILERS[backend] = compile_tower


def register_choice(choose: Choose) -> None:
    """Let something choose the backend where the caller leaves it to `auto`."""
    _CHOOSE[:] = [choose]


def chosen_backend(
    tower: "Tower", backend: BackendName, dtype: str | torch.dtype | None, inputs: int | None
) -> BackendName:
    """The backend itself; or for "auto" one that computes in float32.

    Args:
        tower: what is computed.
        backend: what the caller asked for.
        dtype: the precision that the caller asked for: with one, "auto" is PyTorch.
        inputs: how many there are; None if it is not known.
    """
    if backend != "auto":
        return backend
    return _CHOOSE[0](tower, inputs) if _CHOOSE and dtype is None else "torch"


def register_fold(fold: Callable[["Tower"], Backend | None]) -> None:
    """Let something compute large float32 towers in PyTorch on a CPU; it answers None for those that it does not."""
    _FOLD[:] = [fold]


def get_backend(tower: "Tower", backend: str = "torch", dtype: str | torch.dtype | None = None) -> Backend:
    """The backend that computes a tower.

    Args:
        tower: of the model.
        backend: "torch", "onnx" or "openvino"; "auto" as for many inputs.
        dtype: the precision to compute in; by default that of the weights.

    Raises:
        ValueError: if the backend has no such precision, or needs an exported model for it.
        ImportError: if the backend's library, or the package that compiles towers, is missing.
    """
    names = get_args(BackendName)
    if backend not in names:
        raise ValueError(f"backend is {' or '.join(map(repr, names))}, got {backend!r}")
    precision = None if dtype is None else str(dtype).removeprefix("torch.")
    backend = chosen_backend(tower, cast(BackendName, backend), dtype, None)
    if backend == "torch":
        model = tower.model
        autocast = _autocast(precision, str(model.dtype).removeprefix("torch."))
        device, parameters = input_device(model), model.num_parameters()
        _warn_of_a_slow_precision(autocast or model.dtype, device)
        if _FOLD and autocast is None and device.type == "cpu" and parameters > _LARGE:
            folded = _FOLD[0](tower)
            if folded is not None:
                return folded
        return TorchBackend(tower.embed, device, parameters, autocast)
    if backend not in _COMPILERS:
        raise ImportError(
            f"backend={backend!r} compiles the model by a package: pip install 'hf-encoders[export]', and"
            " `import hf_encoders` before the model is loaded"
        )
    return _COMPILERS[backend](tower, backend, precision)


class Compute(Protocol):
    """The type of `Tower.computed`."""

    def __call__(
        self,
        inputs: object,
        batch_size: int,
        *,
        backend: BackendName,
        dtype: DtypeName | torch.dtype | None,
        skipped: Skipped | None,
        progress: Callable[[int], object],
    ) -> tuple[list[int], list[Tensor]]:
        """See `Tower.computed`."""


def on_devices(tower: "Tower", devices: Sequence[str | torch.device]) -> Compute:
    """What computes a tower on several devices at a time.

    Raises:
        ValueError: if there is no device, or one has no such name.
        ImportError: if the package that does it is missing.
    """
    try:
        names = [str(torch.device(device)) for device in devices]
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={list(devices)}: {str(error).partition(chr(10))[0]}") from error
    if not names:
        raise ValueError("device=[]: name at least one device")
    if not _SPREAD:
        raise ImportError("several devices need the package: pip install hf-encoders, and `import hf_encoders` first")
    return _SPREAD[0](tower, names)


def register_spread(spread: Callable[["Tower", list[str]], Compute]) -> None:
    """Let something compute towers on several devices at a time."""
    _SPREAD[:] = [spread]


def input_device(model: nn.Module) -> torch.device:
    """The device of the weights; the CPU while all are offloaded, because accelerate moves batches on from there."""
    on_device = (parameter.device for parameter in model.parameters() if parameter.device.type != "meta")
    is_offloaded = any(hasattr(module, "_hf_hook") for module in model.modules())
    return next(on_device, torch.device("cpu" if is_offloaded else "meta"))


class TorchBackend:
    """A tower as it is, on any device, in batches that fit into its memory.

    Args:
        embed: a batch → [B, D].
        device: where batches go.
        parameters: how many the model has.
        autocast: the precision to compute in, if it is not that of the weights.
    """

    def __init__(
        self,
        embed: Callable[[Mapping[str, Tensor]], Tensor],
        device: torch.device,
        parameters: int,
        autocast: torch.dtype | None = None,
    ):
        self._embed, self._device, self._autocast = embed, device, autocast
        is_bound = device.type == "cpu" and parameters > _LARGE
        self.max_batch = _INPUTS_PER_THREAD * torch.get_num_threads() if is_bound else None
        self._fits: int | None = None  # after the first batch that did not
        self._did_not_fit = 0

    def embed(self, batches: Iterator[Batch]) -> Iterator[tuple[list[int], Tensor]]:
        """Batches → their indices and embeddings [B, D], in order.

        A batch that does not fit into the memory of the device is halved until it fits, and so are those that follow.
        """
        context: AbstractContextManager[object] = nullcontext()
        if self._autocast is not None:
            context = torch.autocast(self._device.type, dtype=self._autocast)
        for indices, batch in batches:
            indices, start = list(indices), 0
            with context:
                while start < len(indices):
                    size = min(self._fits or len(indices), len(indices))
                    part = slice(start, start + size)
                    rows = self._try({name: tensor[part] for name, tensor in batch.items()}, size)
                    if rows is not None:
                        yield indices[part], rows
                        start += size

    def _try(self, batch: dict[str, Tensor], size: int) -> Tensor | None:
        """Embed a batch; None if it was too large, so that the caller tries a smaller one."""
        try:
            rows = self._embed({name: tensor.to(self._device) for name, tensor in batch.items()})
        except RuntimeError as error:
            from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

            if size == 1 or not should_reduce_batch_size(error):
                raise
            self._did_not_fit, self._fits = self._did_not_fit or size, size // 2
            clear_device_cache(garbage_collection=True)
            return None
        if self._did_not_fit and self._did_not_fit > size == self._fits:
            warning = "%d inputs at a time are too many for the memory of %s: batch_size=%d fits"
            logger.warning(warning, self._did_not_fit, self._device, size)
            self._did_not_fit = 0
        return rows


def _autocast(precision: str | None, own: str) -> torch.dtype | None:
    if precision is None or precision == own:
        return None
    if precision == "int8":
        raise ValueError("PyTorch computes no int8 here: give backend='openvino' or 'onnx', and an exported model")
    if precision not in ("bfloat16", "float16", "float32", "float64"):
        raise ValueError(f"dtype={precision}: encode computes in bfloat16, float16, or the precision of the weights")
    if precision in ("float32", "float64"):
        raise ValueError(f"dtype={precision}: load the model in it (from_pretrained(..., dtype={precision!r})) instead")
    return torch.float16 if precision == "float16" else torch.bfloat16


def _warn_of_a_slow_precision(dtype: torch.dtype, device: torch.device) -> None:
    if device.type == "cpu" and not cpu_computes(dtype):
        name = str(dtype).removeprefix("torch.")
        reason = f"this processor has no instructions for {name}, and PyTorch is tens of times slower in it"
        warnings.warn(f"{reason}: compute in float32, or by backend='openvino'", stacklevel=_callers_level())


def _callers_level() -> int:
    """The stack level of the first caller outside of models, for a warning of the function that calls this."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and Path(frame.f_code.co_filename).parent == _HERE:
        level, frame = level + 1, frame.f_back
    return level


def cpu_computes(dtype: torch.dtype) -> bool:
    """Whether the processor has instructions for a precision; without them PyTorch is tens of times slower in it.

    Where the system does not tell (any but Linux), the answer is yes.

    Args:
        dtype: any; only `torch.bfloat16` and `torch.float16` may be missing.
    """
    if dtype not in _FLAGS:
        return True
    if platform.machine() in _X86 and torch.backends.cpu.get_cpu_capability() in _WITHOUT_BOTH:
        return False
    flags = _cpu_flags()
    return not flags or bool(_FLAGS[dtype] & flags)


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """The flags of the first processor; none where the system does not tell."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features")))
    return frozenset(next(flags, ()))
