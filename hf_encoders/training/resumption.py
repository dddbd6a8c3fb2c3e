"""What a run goes on from, and what becomes of its epoch and its best value where its options differ."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..plurals import counted
from .checkpoints import Kept, Progress
from .division import Division, divide, division_line
from .resume_rules import UNKNOWN, Changes, Part

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DATA, TOKENIZER = "data", "tokenizer"
_HALVES = "fp16"


class Resumption:
    """The checkpoint that a run goes on from, if there is one, compared with the run.

    Args:
        kept: what the checkpoint keeps; None for a run that begins.
        options: the dataclasses of the run.
        keeps_rates: whether learning rates and the schedule stay those of the checkpoint.

    Raises:
        ValueError: if an option cannot be another one.
    """

    def __init__(self, kept: Kept | None, options: "Sequence[DataclassInstance]", keeps_rates: bool = False):
        self.kept = kept
        self.changes = Changes(options, None if kept is None else kept.options, keeps_rates)
        self._has_other_data, self._precision = False, ""
        self._division: Division | None = None

    @property
    def progress(self) -> Progress:
        """Where the run will go on, before the checkpoint is loaded."""
        return Progress() if self.kept is None else self.applied(self.kept.progress)

    @property
    def is_of_older_version(self) -> bool:
        """Whether there is a checkpoint that does not tell its options."""
        return self.kept is not None and self.kept.options is None

    def divide(
        self, batch_size: int, micro_batches: int, processes: int, *, is_stream: bool = False, least: int = 1
    ) -> Division:
        """Divide a step over the processes that there are: with the options of the checkpoint, it keeps its rows.

        Args:
            batch_size: rows per process and micro-batch, as the options have it.
            micro_batches: per process and step, as the options have it.
            processes: that there are.
            is_stream: whether the data are streamed.
            least: rows that a micro-batch needs.

        Raises:
            ValueError: if the rows cannot be divided, or how they were is not known.
        """
        planned = Division(batch_size, micro_batches, processes, processes, processes if is_stream else 0)
        kept = self.kept
        if kept is not None and kept.division is None and kept.processes != processes:
            raise ValueError(
                f"the checkpoint was written by {counted(kept.processes, 'process')}, in a version that did not keep"
                f" how many rows a step has, and this run has {processes}: start as many"
            )
        before = None if kept is None else kept.division
        if before is not None:
            if not {"batch_size", "gradient_accumulation_steps"} & self.changes.names():
                planned = divide(batch_size, micro_batches, before.planned, processes, least)
            # As many parts as before, where the processes can share them.
            parts = planned.batch_size * before.streams  # of each of which a step takes whole batches
            keeps_streams = parts and before.streams % processes == 0 and planned.rows % parts == 0
            if is_stream:
                planned = replace(planned, streams=before.streams if keeps_streams else processes)
        self._division = planned
        return planned

    def check_precision(self, precision: str) -> None:
        """Compare the precision that the run computes in.

        Raises:
            ValueError: if one of the two is float16, whose gradients are scaled by what a checkpoint keeps.
        """
        self._precision = precision
        before = None if self.kept is None else self.kept.precision
        if before not in (None, precision) and _HALVES in (before, precision):
            raise ValueError(
                f"--mixed_precision is {precision}, and {before} in the checkpoint, and {_HALVES} has a state of its"
                " own: give what it was made with, or start a new run in another --output_dir"
            )

    def compare(self, identity: Mapping[str, str]) -> None:
        """Compare what the run reads; see `Kept.identity`.

        Raises:
            ValueError: if the tokenizer is another one.
        """
        known = {} if self.kept is None else self.kept.identity
        if known.get(TOKENIZER, identity.get(TOKENIZER)) != identity.get(TOKENIZER):
            raise ValueError(
                "the tokenizer has other tokens than the one that the checkpoint was made with: give that one, or start"
                " a new run in another --output_dir"
            )
        self._has_other_data = known.get(DATA, identity[DATA]) != identity[DATA]

    def applied(self, progress: Progress) -> Progress:
        """The progress of the checkpoint as the changes leave it."""
        progress = replace(progress, batches=0 if self._restarting() else self._batches() or 0)
        if self._forgetting():
            progress = replace(progress, best=None, best_step=0, best_metrics={}, best_epoch=progress.epoch)
        return progress

    def before(self, part: Part) -> Part:
        """Options with the values that they had in the checkpoint."""
        return self.changes.before(part)

    def lines(self) -> list[str]:
        """What differs and what becomes of it, for people."""
        if self.kept is None:
            return []
        progress = self.kept.progress
        said = [UNKNOWN] if self.is_of_older_version else self.changes.lines()
        if self.kept.precision not in (None, self._precision):
            said.append(f"mixed precision from here on: {self._precision} (was {self.kept.precision})")
        now, before = self._division, self.kept.division
        if now is not None and before is not None and now.processes != before.processes:
            said.append(division_line(now, before))
            if now.batch_size != before.batch_size:
                said.append("dropout draws other numbers from here on, as micro-batches have another size")
        if (causes := self._restarting()) and progress.batches:
            said.append(
                f"epoch {progress.epoch + 1} starts again, after {progress.batches} of its batches: other"
                f" {', '.join(causes)}"
            )
        elif self._has_other_data:
            said.append("the data set is another one than the checkpoint's")
        if (causes := self._forgetting()) and progress.best is not None:
            said.append(f"the best value so far, {progress.best:.4g}, is forgotten: other {', '.join(causes)}")
        return said

    def batch_norm_lines(self, layers: Sequence[object]) -> list[str]:
        """What differs for layers that normalise the rows of a micro-batch together, for people."""
        now, before = self._division, None if self.kept is None else self.kept.division
        if not layers or now is None or before is None or now.batch_size >= before.batch_size:
            return []
        return [f"BatchNorm normalises {now.batch_size} rows at a time instead of {before.batch_size} from here on"]

    def _restarting(self) -> list[str]:
        """What makes other rows, or another order, of an epoch."""
        names = [change.name for change in self.changes.of("epoch", "epoch and best")]
        before, now = (None if self.kept is None else self.kept.division), self._division
        if before is not None and now is not None:
            if now.rows == before.rows and "batch_size" in names:
                names.remove("batch_size")  # the rows of a step are the same
            if self._batches() is None and not names:
                names = ["parts of the stream" if now.streams else "division of its rows"]
        return ["data", *names] if self._has_other_data else names

    def _batches(self) -> int | None:
        """The batches of the epoch that each process has used; None where its rows are divided otherwise."""
        assert self.kept is not None
        batches, before = self.kept.progress.batches, self.kept.division
        return batches if before is None or self._division is None else self._division.batches_after(batches, before)

    def _forgetting(self) -> list[str]:
        return [change.name for change in self.changes.of("best", "epoch and best")]
