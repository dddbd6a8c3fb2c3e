"""What a conversion assumed because nothing in the file tells it, and the words for that.

A verification compares two networks that both make the assumption: it cannot notice a wrong one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..hub.reports import Assumed, ConversionReport, Verification


@dataclass(frozen=True)
class Assumption:
    """One quantity that has several values in use in its family of networks, and that the file does not hold.

    Args:
        quantity: its name, such as "heads".
        what: what was assumed, such as "12 attention heads of 64 channels in the text tower".
        options: the options that settle it; none where a person cannot know better.
        of_network: whether the network computes something else under another value. False for what concerns its
            inputs alone, such as the normalisation of images: a verification begins after it.
    """

    quantity: str
    what: str
    options: tuple[str, ...]
    of_network: bool = True


def as_report(assumptions: Sequence[Assumption]) -> list[Assumed]:
    """The entries of conversion_report.json."""
    return [
        {"quantity": each.quantity, "what": each.what, "options": each.options, "of_network": each.of_network}
        for each in assumptions
    ]


def from_report(report: ConversionReport | Verification) -> list[Assumption]:
    """Read the entries of conversion_report.json; a report without them assumed nothing."""
    return [
        Assumption(entry["quantity"], entry["what"], tuple(entry["options"]), entry["of_network"])
        for entry in report.get("assumed", [])
    ]


def verdict(assumptions: Sequence[Assumption]) -> str:
    """The word for a comparison that passed: "verified", or "consistent, with assumed heads"."""
    quantities = list(dict.fromkeys(each.quantity for each in assumptions if each.of_network))
    if not quantities:
        return "verified"
    *first, last = quantities
    return f"consistent, with assumed {', '.join(first)}{' and ' if first else ''}{last}"


def warnings(assumptions: Sequence[Assumption], *, of_repo: bool = False) -> list[str]:
    """One line per assumption: what it is, and what settles it.

    Args:
        assumptions: of a conversion.
        of_repo: whether the conversion is over, so that its options settle nothing but in another one.
    """
    told = "; to settle it, convert the checkpoint again with {}" if of_repo else "; {} settles it"
    return [
        f"warning: {each.what} {_NOT_TOLD[each.of_network]}"
        + (told.format(" or ".join(each.options)) if each.options else "")
        for each in assumptions
    ]


_NOT_TOLD = {
    True: "assumed: nothing in the file tells, and both sides of the comparison assume it",
    False: "assumed: nothing in the file tells, and the comparison does not involve it",
}
