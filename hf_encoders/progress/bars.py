"""The bar of work that takes long; in a log, where a bar would be drawn over and over, a line now and then."""

import sys
import time

from tqdm.auto import tqdm
from tqdm.std import tqdm as TextBar

_SECONDS_PER_LINE = 60
_LINE = "{desc} {n_fmt} of {total_fmt} {unit} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_NOTEBOOK = "ipykernel"


class ProgressLines(TextBar):
    """A bar for files and pipes: a line per minute, and none for work that is done sooner."""

    _shown = 0.0

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write a line, where the last one is old enough."""
        now = time.monotonic()
        self._shown = self._shown or now
        if now - self._shown >= _SECONDS_PER_LINE:
            self._shown = now
            self.fp.write(f"{str(self).strip()}\n")
        return False  # nothing is on the last line that would have to go

    def clear(self, nolock: bool = False) -> None:
        """Leave what is written: a line stays."""

    def close(self) -> None:
        """End without a last line: whoever counts says what was done."""
        self.leave = False
        super().close()


def progress_bar(
    total: int | None,
    desc: str | None = None,
    unit: str = "it",
    *,
    initial: int = 0,
    leave: bool = True,
    is_shown: bool = True,
) -> TextBar:
    """A bar on stderr that counts to `total`; see `ProgressLines` for a stderr that is no terminal.

    Args:
        total: how many there are; None where nobody knows.
        desc: what is done.
        unit: what is counted.
        initial: how many are done already.
        leave: whether the bar stays when all are counted.
        is_shown: whether there is one.
    """
    if not is_shown or sys.stderr.isatty() or _NOTEBOOK in sys.modules:
        return tqdm(total=total, desc=desc, unit=unit, initial=initial, leave=leave, disable=not is_shown)
    return ProgressLines(
        total=total,
        desc=desc,
        unit=unit.strip(),
        initial=initial,
        bar_format=_LINE,
        maxinterval=_SECONDS_PER_LINE,
    )
