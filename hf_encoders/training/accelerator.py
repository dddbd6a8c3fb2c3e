"""The processes of a training run: how they start, print, and count the rows that cannot be read."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

from accelerate import Accelerator, DataLoaderConfiguration, DistributedType
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
    gather_object,
)
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from ..launched_processes import launched_processes, on_cpus
from ..plurals import counted
from .checks import TENSORBOARD, chosen_tracker
from .depth.arguments import DepthRunArguments
from .multimodal.arguments import RunArguments
from .precision import launched_precision, resolved, warn_if_slow
from .result import LOGS
from .shared_arguments import AUTO, PRECISIONS

ANSWER = timedelta(minutes=10)  # a process that waits so long for another takes it for lost
_LISTED = 10  # rows that an error names


def make_accelerator(run: RunArguments | DepthRunArguments, kept_precision: str | None = None) -> Accelerator:
    """Join the processes of a run, with its precision and its tracker.

    Args:
        run: the options of the run.
        kept_precision: that of the checkpoint that the run goes on from.

    Raises:
        ValueError: if `accelerate launch` asks for sharding that the run does not support, or the tracker is not
            installed.
    """
    if run.mixed_precision not in (None, AUTO, *PRECISIONS):
        raise ValueError(f"--mixed_precision is {AUTO}, {', '.join(PRECISIONS)}, got {run.mixed_precision!r}")
    sharding = _sharding(run)
    deepspeed = _deepspeed(run)
    if sharding is not None:
        _allow_sharding_on_cpus()
    if deepspeed is not None:
        launched_processes(timeout=ANSWER)  # joined here: told of CPUs below, Accelerate would go on without DeepSpeed
    # DeepSpeed would cast all weights.
    precision, why = ("no", "for DeepSpeed") if deepspeed is not None else resolved(run.mixed_precision, kept_precision)
    tracker = chosen_tracker(run.report_to)
    accelerator = Accelerator(
        cpu=on_cpus() and deepspeed is None,
        deepspeed_plugin=deepspeed,
        mixed_precision=precision,
        log_with=tracker,
        project_dir=str(Path(run.output_dir) / LOGS),
        # The run itself moves the schedule, whatever the number of processes.
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=run.seed),
        # A step may call the model twice; broadcasts of BatchNorm's statistics in between would disturb it.
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=ANSWER),
        ],
    )
    if sharding is not None:
        accelerator.state.fsdp_plugin = sharding  # on CPUs, Accelerate does not keep a plugin that it is given
    if run.mixed_precision is not None:
        say(accelerator, f"mixed precision: {precision} ({why})")
    if accelerator.is_main_process:
        warn_if_slow(precision)
    if tracker is None and run.report_to == AUTO:
        say(accelerator, f"{TENSORBOARD} is not installed: nothing is logged to it")
    return accelerator


def _allow_sharding_on_cpus() -> None:
    """Let processes on CPUs use FSDP, which Accelerate allows on accelerators only.

    It has no public door for this: the state that its processes share is changed (seen working in 1.10 and 1.15).
    """
    processes = launched_processes(timeout=ANSWER)
    if processes.distributed_type == DistributedType.MULTI_CPU:
        processes.distributed_type = DistributedType.FSDP


def _sharding(run: RunArguments | DepthRunArguments) -> FullyShardedDataParallelPlugin | None:
    """The FSDP that `accelerate launch` asks for, if it does."""
    if not _asked_for("FSDP"):
        return None
    plugin = FullyShardedDataParallelPlugin()
    if isinstance(run, DepthRunArguments):
        raise ValueError("this script does not train with FSDP: launch it with accelerate launch --multi_gpu")
    if plugin.fsdp_version != 2:
        raise ValueError("FSDP of version 1 is not supported: set fsdp_version to 2 (--fsdp_version 2)")
    return plugin


def _deepspeed(run: RunArguments | DepthRunArguments) -> DeepSpeedPlugin | None:
    """The DeepSpeed that `accelerate launch` asks for, if it does, with the options of the recipe."""
    if not _asked_for("DEEPSPEED"):
        return None
    if isinstance(run, DepthRunArguments):
        raise ValueError("this script does not train with DeepSpeed: launch it with accelerate launch --multi_gpu")
    if run.chunk_size or run.gradient_accumulation_steps > 1:
        raise ValueError("DeepSpeed takes a batch at once: leave out --chunk_size and --gradient_accumulation_steps")
    if (run.mixed_precision or launched_precision()) not in ("no", AUTO):
        raise ValueError("DeepSpeed would cast all weights to that precision, and save them so: --mixed_precision no")
    plugin = DeepSpeedPlugin()
    if plugin.zero_stage > 2:
        raise ValueError(
            "ZeRO of stage 3 is not supported: its weights are whole inside of DeepSpeed alone, and validation,"
            " averages and the saved repo need them whole; take FSDP of version 2, which spreads weights too"
            " (training/configs/fsdp2.yaml), or zero_stage 2"
        )
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": run.batch_size,
        "gradient_clipping": run.max_grad_norm,
    }
    return plugin


def asks_for_sharding() -> bool:
    """Whether `accelerate launch` asks for FSDP or DeepSpeed, before the processes are joined."""
    return _asked_for("FSDP") or _asked_for("DEEPSPEED")


def _asked_for(name: str) -> bool:
    """Whether `accelerate launch` was told to use FSDP or DeepSpeed: it says so in the environment."""
    return os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true"


def without_sync(accelerator: Accelerator, model: nn.Module) -> AbstractContextManager[None]:
    """A context in which the gradients of a prepared model are not averaged over the processes.

    Accelerate's own does nothing for one process, and DDP, which a launcher gives one process too, would wait for the
    gradients of what comes later.
    """
    return model.no_sync() if isinstance(model, DistributedDataParallel) else accelerator.no_sync(model)


@contextmanager
def one_goes_first(accelerator: Accelerator, needed: bool) -> Iterator[None]:
    """Where it is needed, one process does first what the others find done; then one of each machine, with its disk."""
    if not needed:
        yield
        return
    with accelerator.main_process_first(), accelerator.local_main_process_first():
        yield


def say(accelerator: Accelerator, text: str) -> None:
    """Print once, beside a progress bar."""
    if accelerator.is_main_process:
        tqdm.write(text)


def count_bad(accelerator: Accelerator, known: list[str], found: Sequence[str], limit: int) -> None:
    """Remember the rows that were skipped on all processes; each epoch meets them again.

    Args:
        accelerator: the processes, each of which calls this.
        known: the rows that were skipped before; it grows.
        found: the rows that this process skipped now.
        limit: how many may be skipped.

    Raises:
        ValueError: if there are more.
    """
    new = sorted(set(gather_object(list(found))) - set(known))
    known += new
    for text in new[:_LISTED]:
        say(accelerator, f"skipped {text}")
    if len(known) > limit:
        listed = "; ".join(known[:_LISTED])
        raise ValueError(f"{counted(len(known), 'row')} cannot be read, more than --max_bad_samples allows: {listed}")
