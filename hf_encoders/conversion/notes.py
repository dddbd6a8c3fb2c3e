"""The lines of a conversion that a person should know beside its figures."""

from ..hub.reports import ConversionReport
from ..models.input_errors import printable
from ..plurals import counted
from .families.legacy.multimodal_layouts import MULTIMODAL

_MISSING = {
    "tokenizer": "warning: there is no tokenizer, so nothing can read texts; give it with --tokenizer",
    "image_processor": "warning: there is no image processor, since nothing tells what the network's channels hold;"
    " give --mean and --std, or --image-processor",
}


def conversion_notes(report: ConversionReport, license: str | None) -> list[str]:
    """What a person should know about a converted repo, one line each.

    Args:
        report: the repo's.
        license: the licence that the person named, if any.
    """
    layout = report["source"]["layout"]
    notes = []
    if state := report.get("training_state"):
        notes.append(f"training state: epoch {state['epoch']}, step {state['global_step']}, AdamW's moments")
    notes += _multimodal_notes(report) if layout == MULTIMODAL else []
    notes += _encoder_notes(report, license) if "moved" in report else []
    stated = report["source"]["metadata"].get("config")
    if isinstance(stated, dict) and "height_range" in stated:
        notes.append(
            "note: the processor stretches each map from its minimum to its maximum, as legacy inference did; the file"
            f" names a height range of ±{printable(str(stated['height_range']))} (README.md there says how to use it)"
        )
    return notes


def _multimodal_notes(report: ConversionReport) -> list[str]:
    notes = []
    for name in report["untrained"]:
        notes.append(f"warning: {name} is untrained: depth embeddings mean nothing until it is trained")
    if report["parts"]["tokenizer"] is None:
        notes.append("warning: there is no tokenizer: set model.processor.tokenizer before texts are embedded")
    return notes


def _encoder_notes(report: ConversionReport, license: str | None) -> list[str]:
    """What a person should know about a converted encoder, one line each."""
    notes = []
    for part in report.get("untrained", ()):
        notes.append(f"warning: the file has no {part}: its weights are made up and mean nothing; use another pooling")
    if labels := report.get("labels"):
        notes.append(f"labels: the names of {counted(labels, 'class')} are the file's")
    for part, source in report.get("parts", {}).items():
        if source is None:
            notes.append(_MISSING[part])
    if license is None:
        notes.append("note: no file tells its licence; --license NAME writes it on the card")
    return [printable(note) for note in notes]
