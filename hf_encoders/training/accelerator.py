"""What the training scripts share about processes: how they start, what they say, and the rows that none could read."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator, DataLoaderConfiguration, DistributedType
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedDataParallelKwargs,
    FullyShardedDataParallelPlugin,
    gather_object,
)
from tqdm.auto import tqdm

from ..launched_processes import launched_processes, on_cpus
from .result import LOGS

_LISTED = 10  # rows that an error names


def make_accelerator(run: Any, *, may_shard: bool = False) -> Accelerator:
    """The processes of a run, its precision and its tracker.

    Args:
        run: options `mixed_precision`, `report_to`, `output_dir` and `seed`.
        may_shard: whether the script can train weights that are spread over the processes.

    Raises:
        ValueError: if `accelerate launch` asks for sharding that there is not.
    """
    sharding = _sharding(may_shard)
    deepspeed = _deepspeed(run, may_shard)
    if sharding is not None and (processes := launched_processes()).distributed_type == DistributedType.MULTI_CPU:
        processes.distributed_type = DistributedType.FSDP  # Accelerate takes it for a thing of accelerators alone
    if deepspeed is not None:
        launched_processes()  # those on CPUs; told of these below, Accelerate would go on without DeepSpeed
    has_tracker = run.report_to in map(str, get_available_trackers())
    accelerator = Accelerator(
        cpu=on_cpus() and deepspeed is None,
        deepspeed_plugin=deepspeed,
        mixed_precision=run.mixed_precision,
        log_with=run.report_to if has_tracker else None,
        project_dir=str(Path(run.output_dir) / LOGS),
        # A schedule goes on when it is told to, whatever the number of processes.
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=run.seed),
        # A step may call the model twice, which broadcasts of BatchNorm's statistics in between would disturb.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if sharding is not None:
        accelerator.state.fsdp_plugin = sharding
    if not has_tracker and run.report_to != "none":
        say(accelerator, f"{run.report_to} is not installed: nothing is logged to it")
    return accelerator


def _sharding(may_shard: bool) -> FullyShardedDataParallelPlugin | None:
    """What `accelerate launch` says about FSDP, if anything."""
    if not _asked_for("FSDP"):
        return None
    plugin = FullyShardedDataParallelPlugin()
    if not may_shard:
        raise ValueError("this script does not train with FSDP: launch it with accelerate launch --multi_gpu")
    if plugin.fsdp_version != 2:
        raise ValueError("FSDP of version 1 is not supported: set fsdp_version to 2 (--fsdp_version 2)")
    return plugin


def _deepspeed(run: Any, may_shard: bool) -> DeepSpeedPlugin | None:
    """What `accelerate launch` says about DeepSpeed, if anything, with what the recipe says."""
    if not _asked_for("DEEPSPEED"):
        return None
    if not may_shard:
        raise ValueError("this script does not train with DeepSpeed: launch it with accelerate launch --multi_gpu")
    if run.chunk_size or run.gradient_accumulation_steps > 1:
        raise ValueError("DeepSpeed takes a batch at once: leave out --chunk_size and --gradient_accumulation_steps")
    if (run.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")) != "no":
        raise ValueError("DeepSpeed would turn all weights into that precision, and save them so: --mixed_precision no")
    plugin = DeepSpeedPlugin()
    if plugin.zero_stage > 2:
        raise ValueError("ZeRO of stage 3 is not supported: set zero_stage to 2, or use FSDP of version 2")
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": run.batch_size,
        "gradient_clipping": run.max_grad_norm,
    }
    return plugin


def _asked_for(name: str) -> bool:
    """Whether `accelerate launch` was told to use it."""
    return os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true"


def say(accelerator: Accelerator, text: str) -> None:
    """Print once, beside a progress bar."""
    if accelerator.is_main_process:
        tqdm.write(text)


def count_bad(accelerator: Accelerator, known: list[str], found: Sequence[str], most: int) -> None:
    """Remember what was skipped on all processes; each epoch meets it again.

    Args:
        accelerator: the processes, each of which calls this.
        known: what was skipped before; it grows.
        found: what this process skipped now.
        most: how many may be skipped.

    Raises:
        ValueError: if there are more.
    """
    new = sorted(set(gather_object(list(found))) - set(known))
    known += new
    for text in new[:_LISTED]:
        say(accelerator, f"skipped {text}")
    if len(known) > most:
        listed = "; ".join(known[:_LISTED])
        raise ValueError(f"{len(known)} rows cannot be read, more than --max_bad_samples allows: {listed}")
