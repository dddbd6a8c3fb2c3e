"""Several training runs in one process."""

from accelerate.state import AcceleratorState


def forget_runs():
    """Let the next run be the first of its process: Accelerate keeps the precision of the first."""
    AcceleratorState._reset_state(reset_partial_state=True)
