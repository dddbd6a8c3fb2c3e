"""What is in a checkpoint, and what became of it, as HTML."""

import json

from ..conversion.assumptions import from_report, verdict, warnings
from ..conversion.compare import ABSOLUTE, MEASURES, compared_outputs
from ..conversion.inspection import Inspection
from ..conversion.notes import conversion_notes
from ..conversion.weights_taken import several_weights, weights_lines
from ..hub.reports import ConversionReport
from .markup import bytes_in_words, element, folded, listing, note, table, text
from .uploads import Offer
from .words import Words

_MOST_CLASSES, _MOST_STATES = 50, 20
_LONGEST_VALUE = 300  # letters


def inspection_markup(found: Inspection, words: Words) -> str:
    """What a file of weights holds.

    Args:
        found: see `inspect_checkpoint`; its `file` is what the page calls it.
        words: the language.
    """
    parts = [
        text("h2", words.inspected.format(found["file"])),
        text("p", f"{found['container']}, {bytes_in_words(found['bytes'])}"),
    ]
    if found["classes"]:
        named = [*found["classes"][:_MOST_CLASSES], *(["…"] if len(found["classes"]) > _MOST_CLASSES else [])]
        parts += [text("h3", words.classes_named), note(words.nothing_ran), listing(named)]
    parts.append(text("h3", words.weights))
    parts.append(_weights(found, words) if found["weights"] else note(words.no_weights))
    states = [
        f"{state['path']}: {state['tensors']:,} · {bytes_in_words(state['bytes'])}"
        for state in [*found["optimizer"], *found["training"]]
        if state["tensors"]
    ]
    if states:
        parts.append(folded(words.other_states, listing(states[:_MOST_STATES])))
    if found["metadata"]:
        parts.append(folded(words.metadata, listing(map(_entry, found["metadata"].items()))))
    return element("section", "".join(parts))


def report_markup(report: ConversionReport, asked_for: str | None, offer: Offer, address: str, words: Words) -> str:
    """What a conversion made, proved and leaves to be fetched.

    Args:
        report: the repo's.
        asked_for: the path of the weights that a person chose, if any.
        offer: the repo as a file.
        address: where that is fetched.
        words: the language.
    """
    assumed = from_report(report)
    headline = words.converted.format(
        source=report["source"]["layout"],
        architecture=report["architecture"],
        parameters=f"{report['parameters']['total']:,}",
        dtype=report["dtype"],
    )
    lines = [*warnings(assumed), *several_weights(report["source"], asked_for), *weights_lines(report)]
    lines += conversion_notes(report, None)
    download = words.download.format(name=offer.name, size=bytes_in_words(offer.size))
    parts = [
        text("h2", headline),
        element("p", text("a", download, href=address, download=offer.name, class_="hfe-download")),
        note(words.download_hint),
        text("h3", f"{words.parity}: {verdict(assumed)}"),
        _parity(report, words),
        *([text("h3", words.notes), listing(lines), note(words.options_note)] if lines else []),
        folded(words.report, text("pre", json.dumps(report, indent=2, ensure_ascii=False))),
    ]
    return element("section", "".join(parts))


def _weights(found: Inspection, words: Words) -> str:
    rows = [
        (
            weights["path"],
            weights["family"] or words.unknown_family,
            f"{weights['tensors']:,}",
            f"{weights['parameters']:,}",
            ", ".join(weights["dtypes"]),
            bytes_in_words(weights["bytes"]),
        )
        for weights in found["weights"]
    ]
    headings = (words.weights, words.family, words.tensors, words.parameters, "dtype", words.size)
    notes = [f"{weights['path']}: {weights['note']}" for weights in found["weights"] if weights["note"]]
    return table(headings, rows) + (listing(notes) if notes else "")


def _parity(report: ConversionReport, words: Words) -> str:
    verification = report["verification"]
    assert verification is not None  # the page converts nothing without it
    measure = verification["measure"]
    rows = [
        (
            name,
            f"{figures[measure]:.1e}{MEASURES[measure]}"
            + ("" if measure == ABSOLUTE else f" ({figures['largest_difference']:.1e})"),
            f"{verification['tolerance']:.0e}",
        )
        for name, figures in compared_outputs(verification).items()
    ]
    return table((words.output, words.difference, words.allowed), rows)


def _entry(entry: tuple[str, object]) -> str:
    name, value = entry
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{name}: {shown if len(shown) <= _LONGEST_VALUE else shown[:_LONGEST_VALUE] + '…'}"
