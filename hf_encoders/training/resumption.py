"""What a run goes on from, and what becomes of its epoch and its best value where its options differ."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .checkpoints import Kept, Progress
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

    @property
    def progress(self) -> Progress:
        """Where the run will go on, before the checkpoint is loaded."""
        return Progress() if self.kept is None else self.applied(self.kept.progress)

    @property
    def is_of_older_version(self) -> bool:
        """Whether there is a checkpoint that does not tell its options."""
        return self.kept is not None and self.kept.options is None

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
        if self._restarting():
            progress = replace(progress, batches=0)
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

    def _restarting(self) -> list[str]:
        """What makes other rows, or another order, of an epoch."""
        names = [change.name for change in self.changes.of("epoch", "epoch and best")]
        return ["data", *names] if self._has_other_data else names

    def _forgetting(self) -> list[str]:
        return [change.name for change in self.changes.of("best", "epoch and best")]
