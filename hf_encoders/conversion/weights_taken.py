"""The lines of a conversion about the weights that it took, and about what else is in the file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..models.input_errors import printable
from ..plurals import counted

if TYPE_CHECKING:
    from ..hub.reports import ConversionReport, SourceReport, UnusedHead

# Where the legacy files hold their weights: nobody needs to be told.
_USUAL = (".", "model_state_dict", "encoder_state_dict")
_MOST_NAMES = 6


def several_weights(source: "SourceReport", asked_for: str | None) -> list[str]:
    """Say which of several sets of weights was taken; empty if the file holds one."""
    weights = source.get("weights")
    if weights is None or not weights["others"]:
        return []
    others = [
        f"{other['path']} ({other['family'] or 'of no known family'}, {counted(other['tensors'], 'tensor')})"
        for other in weights["others"]
    ]
    line = f"took the weights at {weights['path']}; in the file are also {_listed(others)}"
    if asked_for or not any(other["family"] for other in weights["others"]):
        return [printable(f"note: {line}")]
    return [printable(f"warning: {line}; --weights PATH takes another")]


def weights_lines(report: "ConversionReport") -> list[str]:
    """Say where the weights were found, what was left out of them, and which classes the file names."""
    source = report["source"]
    lines = []
    if weights := source.get("weights"):
        prefix = f", without the prefix {weights['prefix']}" if weights["prefix"] else ""
        if prefix or weights["path"] not in _USUAL:
            lines.append(f"weights: {weights['path']}{prefix}")
        lines += weights["notes"]
    if dropped := report.get("dropped"):
        lines.append(f"dropped: {_listed(dropped)} (nothing uses them)")
    if head := report.get("unused_head"):
        lines.append(_head_line(head))
    if classes := source.get("classes"):
        lines.append(f"classes named in the file, none of them imported: {_listed(classes)}")
    return [printable(line) for line in lines]


def _head_line(head: "UnusedHead") -> str:
    """Say what was left out that a person may miss, and how it is kept."""
    name, classes = head["name"], counted(head["classes"], "class")
    return (
        f"note: {name} looks like a classifier of {classes} on the encoder; to keep it, rename it to {head['kept_as']}"
        f" in the file and convert again; to leave it out, give --ignore '{name}.*'"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"
