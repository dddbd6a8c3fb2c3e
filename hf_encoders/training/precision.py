"""The precision that a run computes in, resolved once: "auto" is decided by the hardware, and kept by a resumed run."""

import os
import warnings

import torch
from accelerate.utils import broadcast_object_list

from ..launched_processes import launched_processes, on_cpus
from ..models.backend import cpu_computes
from .shared_arguments import AUTO

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def launched_precision() -> str:
    """The precision that `accelerate launch` tells in the environment: "no" also where nobody asked."""
    return os.environ.get("ACCELERATE_MIXED_PRECISION", "no")


def resolved(asked: str | None, kept: str | None = None) -> tuple[str, str]:
    """Decide on a precision; every process calls this, and gets the same.

    Args:
        asked: "no", "bf16" or "fp16"; None for that of `accelerate launch`; "auto" for the one that suits the hardware.
        kept: the precision of the checkpoint that the run goes on from, which "auto" stands for then.

    Returns:
        The precision, and why it was chosen: "asked for", "of accelerate launch", "of the checkpoint", "auto".
    """
    launched = launched_precision()
    if asked is None:
        return launched, "of accelerate launch"
    if asked != AUTO:
        return asked, "asked for"
    if kept is not None:
        return kept, "of the checkpoint"
    if launched != "no":
        return launched, "of accelerate launch"
    launched_processes()  # joins them: the processor of the first decides for all
    return broadcast_object_list([_of_the_hardware()])[0], AUTO


def warn_if_slow(precision: str) -> None:
    """Warn where the processor has no instructions for a precision: PyTorch is tens of times slower in it."""
    if precision in _DTYPES and on_cpus() and not cpu_computes(_DTYPES[precision]):
        name = str(_DTYPES[precision]).removeprefix("torch.")
        warnings.warn(
            f"this processor has no instructions for {name}, and PyTorch is tens of times slower in it: give"
            " --mixed_precision no",
            stacklevel=2,
        )


def _of_the_hardware() -> str:
    """bf16 where the hardware has instructions for it; float16, whose gradients need scaling, is never chosen."""
    if on_cpus():
        return "bf16" if cpu_computes(torch.bfloat16) else "no"
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "no"
