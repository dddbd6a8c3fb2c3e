"""`hf-encoders classify`: labels in words for a folder, parquet file or data set."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypedDict, cast

from .options import (
    MODALITY_HELP,
    add_collection,
    add_format,
    count,
    depth_units,
    load_model,
    say_backend,
    say_source,
    say_units,
)
from .runner import Result
from .skipping import STOP, say_skipped, skipped_rows

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.skipped import SkippedInput
    from ..data.source import Source
    from ..models.depth_units import DepthUnits
    from ..models.modeling_multimodal_encoder import MultimodalEncoderModel
    from ..zero_shot import Score, Threshold
    from .figures.contact_sheet import Section


NONE_OF_THESE = "none of these"
_CALIBRATED = "calibrated"  # as in zero_shot, which imports torch


class Record(TypedDict):
    """One result: the row's position, the row without its pictures, and its best labels."""

    index: int
    row: dict[str, object]
    labels: "list[Score]"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_collection(parser)
    parser.add_argument("--labels", required=True, help="such as chair,table,lamp, or @FILE with one per line")
    parser.add_argument(
        "--template",
        action="append",
        help="a prompt with {} for the label; several are averaged (default: a photo of a {}.)",
    )
    parser.add_argument("--modality", choices=("image", "depth"), help=MODALITY_HELP)
    parser.add_argument("--top-k", type=count, default=3, help="labels per row (default: %(default)s)")
    parser.add_argument(
        "--threshold",
        type=_threshold,
        metavar="C",
        help=f"a row whose best label has a cosine below this is {NONE_OF_THESE!r}; or {_CALIBRATED}, what hf-encoders"
        " calibrate measured, with its prompts (default: every row gets labels)",
    )
    add_format(
        parser,
        "JSON lines, one per row: index, row, labels, each with label, score (among the labels) and similarity (the"
        f" cosine); the label of {NONE_OF_THESE!r} is null",
    )


def run(args: argparse.Namespace) -> Result:
    """Embed the collection, and show the best labels of each row.

    Raises:
        ValueError: if the model, the collection and the labels do not fit together, or a file cannot be read.
        OSError: if the output exists already or cannot be written.
    """
    from .results import check_output

    check_output(args)  # the imports below take seconds
    from ..data.source import open_pictures
    from ..depth_colours import DepthColours
    from ..zero_shot import ZeroShotClassifier, calibration_of
    from .figures.contact_sheet import draw
    from .results import check_sheet, named_output, plain_row, skipped_records, write

    labels = read_labels(args.labels)
    model = load_model(args)
    templates = args.template
    if args.threshold == _CALIBRATED and not templates:
        templates = list(calibration_of(model).templates)
    options = {"templates": templates} if templates else {}
    classifier = ZeroShotClassifier(cast("MultimodalEncoderModel", model), labels, **options)
    source = open_pictures(model, args.source, args.modality, args.column, args.split)
    units = depth_units(args, source.modality)
    if args.threshold == _CALIBRATED:
        classifier.calibration.of(source.modality)  # before anything is embedded
    check_sheet(args, source.modality, len(source.dataset))
    embeddings, kept, skipped = _embed(model, source, args, units)
    say_source(model, args.source, source.modality, args.modality, source.left_out)
    say_skipped(skipped, len(skipped), "row", named_output(args))
    say_backend(args, model, source.modality)
    if source.modality == "depth":
        say_units(model, units)
    rows = source.rows.select(kept)
    results = classifier.classify_embeddings(
        embeddings, top_k=args.top_k, threshold=args.threshold, modality=source.modality
    )
    records: list[Record] = [
        {"index": index, "row": plain_row(row, rows.features, source.column), "labels": best}
        for index, row, best in zip(kept, rows, results, strict=True)
    ]
    return write(
        args,
        records,
        table=lambda: _table(source, records),
        sheet=lambda: draw([_section(source, records)], depth=DepthColours.of(model, units)),
        skipped=skipped_records(source, skipped),
    )


def read_labels(labels: str) -> list[str]:
    """The labels of `a,b,c`, or of `@file` with one per line.

    Raises:
        ValueError: if there is no label.
    """
    if labels.startswith("@"):
        from ..data.text_files import read_text

        parts = read_text(labels[1:]).splitlines()
    else:
        parts = labels.split(",")
    found = [part.strip() for part in parts if part.strip()]
    if not found:
        raise ValueError(f"{labels!r}: no label; give them as a,b,c or as @file with one per line")
    return found


def _embed(
    model: object, source: "Source", args: argparse.Namespace, units: "DepthUnits"
) -> "tuple[Tensor, Sequence[int], list[SkippedInput]]":
    """Embeddings of the rows that can be read, and their positions; and the rows that cannot."""
    from ..data.cells import picture_items
    from ..modalities import encoder
    from .results import encoding_options

    encode, items = encoder(model, source.modality, units), picture_items(source.dataset, source.column)
    options = encoding_options(args)
    with source.named():
        if args.on_error == STOP:
            embeddings = encode(items, **options)
            return embeddings, range(len(embeddings)), []
        embeddings, kept = encode(items, on_error="skip", **options)
    positions = [mask.nonzero().flatten().tolist() for mask in (kept, ~kept)]
    return embeddings, positions[0], skipped_rows(source, partial(encode, **options), positions[1])


def _table(source: "Source", records: Sequence[Record]) -> list[str]:
    names = [source.label(record["index"], record["row"]) for record in records]
    width = max(map(len, names), default=0)
    return [
        f"{name:<{width}}  {'  '.join(_answer(best) for best in record['labels'])}"
        for name, record in zip(names, records, strict=True)
    ]


def _section(source: "Source", records: Sequence[Record]) -> "Section":
    """The rows as a contact sheet."""
    from ..data.cells import picture_items
    from .figures.contact_sheet import Section, Tile

    pictures = picture_items(source.dataset, source.column)
    return Section(
        "",
        [
            Tile(
                pictures[record["index"]],
                source.modality,
                source.caption(record["index"], record["row"]),
                [_answer(best) for best in record["labels"]],
            )
            for record in records
        ],
    )


def _answer(best: "Score") -> str:
    """A label, its score and its cosine: chair 0.62 (cos 0.213)."""
    cosine = f"cos {best['similarity']:.3f}"
    if best["label"] is None:
        return f"{NONE_OF_THESE} ({cosine})"
    return f"{best['label']} {best['score']:.2f} ({cosine})"


def _threshold(text: str) -> "Threshold":
    """Parse a number from -1 to 1, or the word."""
    if text == _CALIBRATED:
        return "calibrated"
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not -1 <= number <= 1:  # NaN too
        raise argparse.ArgumentTypeError(f"must be a cosine, from -1 to 1, or {_CALIBRATED}, got {text!r}")
    return number
