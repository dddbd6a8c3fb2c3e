"""Runs a test module's own `main` in real processes that talk to each other by gloo."""

import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]


def on_ranks(script, folder, processes=2):
    """What `joined` saved on each rank of `python SCRIPT FOLDER`."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0",
        "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes), str(script), str(folder),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-9000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(processes)]


def joined(main, *, join=True):
    """Call `main`, with this process as one of the ranks (or for `main` to join them), and save what it returns."""
    if join:
        dist.init_process_group("gloo")
    torch.save(main(int(os.environ["RANK"])), Path(sys.argv[1]) / f"{os.environ['RANK']}.pt")
    if dist.is_initialized():  # a command ends it by itself
        dist.barrier()
        dist.destroy_process_group()
    # Without the interpreter's own end, in which a thread of gloo once in a hundred times aborts the process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
