"""What a run says before it begins: what it reads, what it trains, and what it minimises."""

from collections.abc import Mapping

from torch import nn

from ..plurals import counted
from .division import Division

_WARMUP = 10  # a warm-up of a tenth of the steps is usual


def data_line(names: list[str], rows: int | None, columns: Mapping[str, str], validation: str) -> str:
    """The data of a run, for people.

    Args:
        names: the data sets.
        rows: how many there are to train on; None for a stream.
        columns: modality → column.
        validation: what is measured after each epoch.
    """
    count = "a stream of rows" if rows is None else counted(rows, "row")
    read = "".join(f"; {modality} in {column!r}" for modality, column in columns.items())
    return f"data: {count} of {', '.join(names)}{read}; {validation}"


def model_line(model: nn.Module, source: str) -> str:
    """The network of a run: its class, where its weights come from, its size, and what is frozen."""
    parameters = list(model.parameters())
    size = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    frozen = [name for name, part in model.named_children() if _is_frozen(part)]
    kept = f", of which {_millions(trained)} are trained ({', '.join(frozen)} frozen)" if frozen else ""
    return f"model: {type(model).__name__}, {source}; {_millions(size)} parameters{kept}"


def loss_line(loss: str, steps: int, rows_of_a_step: int, rate: str, precision: str) -> str:
    """The loss of a run, and how it is minimised."""
    number = "float32" if precision == "no" else precision
    return f"loss: {loss}; {counted(steps, 'step')} of {counted(rows_of_a_step, 'row')}, {rate}, in {number}"


def patience_line(patience: int) -> str:
    """What to say of a patience without a validation."""
    return (
        f"patience {patience} has no metric to wait for: no data set has a split 'validation' (--validation_split names"
        " another), so the run goes to its end, and its last weights are kept: they need not be its best"
    )


def warmup_line(warmup_steps: int, steps: int, rate: float) -> str:
    """What to say of a learning rate that never reaches its peak."""
    return (
        f"the learning rate rises for {counted(warmup_steps, 'step')}, and the run has {steps}: it never reaches"
        f" {rate:g}; give --warmup_steps {steps // _WARMUP}, or more --epochs"
    )


def too_few_line(rows: int, division: Division) -> str:
    """What to say of data that have fewer rows than a step takes."""
    fits = rows // (division.micro_batches * division.processes)
    hint = f"give --batch_size {fits} or less" if fits else "lower --gradient_accumulation_steps, or start fewer"
    return (
        f"no steps: {counted(rows, 'row')}, fewer than the {division.rows} of a step (batch_size {division.batch_size}"
        f" x gradient_accumulation_steps {division.micro_batches} x {counted(division.processes, 'process')}); {hint}"
    )


def _is_frozen(part: nn.Module) -> bool:
    parameters = list(part.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count:,}"
