"""Ray's cluster, or Ray on this machine, for as long as a run lasts."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from ..models.input_errors import one_line

# Variables by which storage and the Hub are reached; workers on other machines get them too.
_PREFIXES = ("AWS_", "AZURE_", "FSSPEC_", "GCSFS_", "GOOGLE_", "HF_", "STORAGE_EMULATOR_")
# Of tasks and actors that want the same, Ray Data makes one: it would decode where the network is.
_MOST_CPUS = 0.9
_DEBUG = "HF_ENCODERS_DEBUG"


@dataclass(frozen=True)
class Workers:
    """The actors with the network.

    Args:
        count: how many there are.
        gpus: how many GPUs each has; less than 1 where several share one.
        cpus: its share of the CPUs. The rest reads and decodes: with none left, a run would wait for ever.
        threads: how many threads of a CPU each computes with: as many as this process would, if there are so many. The
            last bit of an embedding depends on it.
    """

    count: int
    gpus: float
    cpus: float
    threads: int


def check_ray() -> None:
    """Raise ImportError if Ray is not installed."""
    if find_spec("ray") is None or find_spec("ray.data") is None:
        raise ImportError("--engine ray needs Ray: pip install 'hf-encoders[ray]'")


@contextmanager
def cluster(address: str | None, workers: int | None, gpus_per_worker: float | None) -> Iterator[Workers]:
    """Join a cluster, or start Ray on this machine; afterwards leave it. What `ray.init` of the caller joined is used.

    Args:
        address: as `ray.init` takes it: "auto" for the cluster that this machine is in, or HOST:PORT of its head. By
            default what RAY_ADDRESS names, else Ray is started here.
        workers: how many actors compute; by default one for each GPU, or for each two CPUs where there is none.
        gpus_per_worker: for each of them; by default 1, or 0 where there is none.

    Raises:
        ValueError: if there is no such cluster, or no GPU in one of this machine.
    """
    import ray

    is_ours = not ray.is_initialized()
    is_started_here = is_ours and address is None and "RAY_ADDRESS" not in os.environ
    with _quiet_ray():
        if is_ours:
            _join(address, is_started_here)
        try:
            yield workers_of(ray.cluster_resources(), workers, gpus_per_worker, is_started_here)
        finally:
            if is_ours:
                ray.shutdown()


def environment() -> dict[str, str]:
    """The variables of this process by which storage and the Hub are reached."""
    return {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES)}


def _join(address: str | None, is_started_here: bool) -> None:
    import ray

    is_quiet = _DEBUG not in os.environ
    level = logging.ERROR if is_quiet else logging.INFO
    dashboard = False if is_started_here else None
    try:
        with _without_stderr() if is_quiet else nullcontext():
            ray.init(address=address, include_dashboard=dashboard, log_to_driver=not is_quiet, logging_level=level)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "--address " + address if address else "RAY_ADDRESS" if not is_started_here else "Ray"
        hint = "start one with `ray start --head`, or leave --address out to use this machine alone"
        reason = "cannot be started here" if is_started_here else "no Ray cluster there"
        raise ValueError(f"{where}: {reason} ({one_line(error)})" + ("" if is_started_here else f"; {hint}")) from error


def workers_of(
    resources: dict[str, float], workers: int | None, gpus_per_worker: float | None, is_started_here: bool
) -> Workers:
    """How many workers there are, and what each has; arguments as of `cluster`, and what Ray has."""
    cpus, gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
    gpus_each = (1.0 if gpus else 0.0) if gpus_per_worker is None else gpus_per_worker
    if workers is None:
        workers = int(gpus / gpus_each) if gpus_each else int(cpus) // 2
    workers = max(1, workers)
    if is_started_here and gpus_each * workers > gpus:
        raise ValueError(
            f"--workers {workers} with {gpus_each:g} GPUs each: this machine has {gpus:g}; --gpus-per-worker 0 computes"
            " on CPUs"
        )
    threads = max(1, min(torch.get_num_threads(), int(cpus / workers)))
    return Workers(workers, gpus_each, min(_MOST_CPUS, cpus / (2 * workers)), threads)


@contextmanager
def _quiet_ray() -> Iterator[None]:
    """Ray's own lines are left out, unless tracebacks are asked for too."""
    import ray.data  # noqa: F401 - it sets the levels of its loggers

    logger = logging.getLogger("ray.data")
    level = logger.level
    if _DEBUG not in os.environ:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _without_stderr() -> Iterator[None]:
    """For code in C++ that says there which level of its log it was asked for."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
