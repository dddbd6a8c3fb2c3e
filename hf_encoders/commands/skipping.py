"""`--on-error`: inputs that cannot be read end a command, or are left out and listed."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..plurals import counted

if TYPE_CHECKING:
    from ..data.skipped import Encoding, SkippedInput
    from ..data.source import Source

STOP, SKIP = "stop", "skip"
_LISTED = 20


def add_on_error(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option; `what` are the inputs."""
    parser.add_argument(
        "--on-error",
        choices=(STOP, SKIP),
        default=STOP,
        help=f"{what} that cannot be read end the command (stop, the default), or are left out and listed (skip)",
    )


def on_error(args: argparse.Namespace) -> Literal["raise", "skip"]:
    """The option as `encode` takes it."""
    return "skip" if args.on_error == SKIP else "raise"


def skipped_rows(source: "Source", encode: "Encoding", positions: Sequence[int]) -> "list[SkippedInput]":
    """The rows that a command left out, and why.

    Args:
        source: all rows.
        encode: the method that left them out, with its options.
        positions: theirs in the source.

    Raises:
        ValueError: if no row is left.
    """
    from ..data.cells import picture_items
    from ..data.skipped import skipped_inputs

    rows = source.rows

    def name_of(index: int) -> str:
        return source.label(index, rows[index])

    def item_of(index: int) -> Sequence[object]:
        row = source.dataset.select([index])
        return row[source.column] if source.modality == "text" else picture_items(row, source.column)

    found = skipped_inputs(encode, positions, item_of, name_of)
    check_some_left(found, len(source.dataset), source.name)
    return found


def check_some_left(skipped: "Sequence[SkippedInput]", count: int, source: str) -> None:
    """Refuse to go on with nothing.

    Raises:
        ValueError: if all inputs were left out.
    """
    if skipped and len(skipped) == count:
        first = skipped[0]
        raise ValueError(f"{source}: none of {count} can be embedded; the first: {first['name']}: {first['reason']}")


def say_skipped(skipped: "Sequence[SkippedInput]", count: int, noun: str, listed_in: str = "") -> None:
    """Print on stderr how many inputs were left out, and the first of them with what is wrong.

    Args:
        skipped: those that were left out, or the first of them.
        count: the number of those.
        noun: what an input is.
        listed_in: where all of them are listed, if they are.
    """
    if not count:
        return
    lines = [f"skipped {counted(count, noun)}:"]
    lines += [f"  {one['name']}: {one['reason']}" for one in skipped[:_LISTED]]
    if (more := count - min(len(skipped), _LISTED)) > 0:
        lines.append(f"  and {more} more{f', listed in {listed_in}' if listed_in else ''}")
    sys.stderr.write("".join(f"{line}\n" for line in lines))
