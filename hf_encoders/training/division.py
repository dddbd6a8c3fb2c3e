"""How the rows of a step are divided over processes, so that a run goes on with more or fewer of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..plurals import counted


@dataclass(frozen=True)
class Division:
    """The rows of a step, divided over processes and micro-batches.

    Micro-batch m of process p is number m * processes + p of its step. So a step has the same rows, in the same order,
    however many processes share its micro-batches.

    Args:
        batch_size: rows of a micro-batch.
        micro_batches: of a step, per process.
        processes: of the run.
        planned: processes that the options were given for; the rows of a step follow from both.
        streams: parts that a streamed data set is read in; 0 for one on disk.
    """

    batch_size: int
    micro_batches: int
    processes: int
    planned: int
    streams: int = 0

    @property
    def rows(self) -> int:
        """The rows of a step, of all processes: the global batch."""
        return self.batch_size * self.micro_batches * self.processes

    @property
    def streams_of_a_process(self) -> int:
        """How many parts of a streamed data set each process reads, in turns; 1 for data on disk."""
        return self.streams // self.processes if self.streams else 1

    def number(self, micro_batch: int, process: int) -> int:
        """The number of a micro-batch in its step, counted over all processes."""
        return micro_batch * self.processes + process

    def batches_after(self, batches: int, before: "Division") -> int | None:
        """The batches of an epoch that each process has used, where another division used as many rows.

        Args:
            batches: that each process used in the division before.
            before: that division.

        Returns:
            None if these rows are not whole batches here, or were read in another order.
        """
        if self.streams != before.streams:
            return 0 if not batches else None
        rows = batches * before.batch_size * before.processes
        # A process reads its streams in turns, so as many batches of each.
        unit = self.batch_size * (self.streams or self.processes)
        return rows // (self.batch_size * self.processes) if rows % unit == 0 else None


def divide(batch_size: int, micro_batches: int, planned: int, processes: int, least: int = 1) -> Division:
    """Divide the rows of a step over other processes than it was planned for.

    A micro-batch never grows, so that it fits into the memory of a process: fewer processes take more of them.

    Args:
        batch_size: rows of a micro-batch, as planned.
        micro_batches: of a step, per process, as planned.
        planned: processes, as planned.
        processes: that there are.
        least: rows that a micro-batch needs.

    Raises:
        ValueError: if the rows cannot be divided evenly.
    """
    rows = batch_size * micro_batches * planned
    own = rows // processes
    sizes = [size for size in range(least, min(batch_size, own) + 1) if own % size == 0]
    if own * processes != rows or not sizes:
        fitting = [count for count in range(1, rows // least + 1) if rows % count == 0]
        near = {max(count for count in fitting if count <= processes)}
        near |= {min((count for count in fitting if count > processes), default=max(near))}
        raise ValueError(
            f"a step of the checkpoint's run has {counted(rows, 'row')}, which {counted(processes, 'process')} cannot"
            f" share evenly: start {' or '.join(map(str, sorted(near)))}, or give another --batch_size, for another"
            " global batch"
        )
    return Division(max(sizes), own // max(sizes), processes, planned)


def division_line(now: Division, before: Division) -> str:
    """What became of a step where a run goes on with another number of processes, for people."""
    own, earlier = now.batch_size * now.micro_batches, before.batch_size * before.micro_batches
    parts = f", as {now.micro_batches} micro-batches of {now.batch_size}" if now.micro_batches > 1 else ""
    stays = f"the global batch of {now.rows} stays"
    return (
        f"goes on with {counted(now.processes, 'process')} instead of {before.processes}: {counted(own, 'row')} per"
        f" process and step instead of {earlier}{parts};"
        f" {stays if now.rows == before.rows else f'the global batch is {now.rows} instead of {before.rows}'}"
    )


def kept_division(content: Any, options: Mapping[str, Any] | None, processes: int) -> Division | None:
    """The division that a checkpoint keeps.

    Args:
        content: what it says of it; None in one of an older version.
        options: of its run; None if it does not tell them either.
        processes: that wrote it.

    Returns:
        None if it is not known.
    """
    if content is not None:
        return Division(**content)
    if options is None:
        return None
    size, micro_batches = options["batch_size"], options.get("gradient_accumulation_steps", 1)
    return Division(size, micro_batches, processes, processes, processes if options.get("streaming") else 0)


def seed_of(seed: int, step: int, *numbers: int) -> int:
    """A seed for what is random in a part of a step, such as dropout: resumed runs repeat it.

    Args:
        seed: of the run.
        step: steps that were taken before.
        numbers: that of the micro-batch, see `Division.number`, and of a part of it.
    """
    return int(np.random.SeedSequence([seed, step, *numbers]).generate_state(1, np.uint64)[0] >> 1)
