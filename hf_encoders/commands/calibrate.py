"""`hf-encoders calibrate`: measures when an input is none of the labels, and writes it into a model's folder.

    hf-encoders calibrate my-encoder my-data --label-column noun --unknown-split unseen --template "a {}"
    hf-encoders classify my-encoder photos --labels chair,table --threshold calibrated

Half of the rows choose the score and its thresholds, the other half is measured.
"""

import argparse
from typing import TYPE_CHECKING

from ..models.input_errors import InputError
from ..plurals import counted
from .options import (
    DATA_HELP,
    add_batch_size,
    add_depth_units,
    add_device,
    add_encoder,
    add_format,
    add_overwrite,
    depth_units,
    load_model,
    say,
    say_units,
)
from .runner import Result
from .skipping import add_on_error, on_error, say_skipped

if TYPE_CHECKING:
    from ..data.skipped import SkippedInput
    from ..evaluation.calibrate import CalibrationResult
    from ..evaluation.known import Measured

_SCORES = ("cosine", "softmax", "background")
# Measure → its title in the table.
_TITLES = {
    "auroc": "AUROC", "fpr_at_95_tpr": "FPR95", "kept": "kept", "refused": "refused",
    "balanced_accuracy": "accuracy",
}  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_encoder(parser)
    add = parser.add_argument
    add("dataset", help=f"rows with labels: {DATA_HELP}")
    add("--split", default="validation", help="its split (default: %(default)s)")
    add("--label-column", required=True, help="the column of the labels")
    add("--unknown-dataset", help=f"rows of other classes; default: the data set; else {DATA_HELP}")
    add("--unknown-split", help="the split of other classes; rows that have one of the labels are left out")
    add(
        "--labels",
        help="such as chair,table,lamp, or @FILE with one per line, asked for all at a time; default: those of the"
        " split, of which 5, 20 and all are asked for at a time",
    )
    add("--labels-split", help="take the labels of another split of the data set, such as train")
    add(
        "--template",
        action="append",
        help="a prompt with {} for the label; several are averaged (default: a photo of a {}.)",
    )
    add("--background", help="more words that compete with the labels, such as person,car, or @FILE with one per line")
    add(
        "--kept", type=float, default=0.9, help="share of the known rows that are to be answered (default: %(default)s)"
    )
    add("--score", choices=_SCORES, help="default: the one that tells known from unknown rows best")
    add(
        "--modalities", nargs="+", choices=("image", "depth"), help="default: all that the model and the data both have"
    )
    add("--image-column", help="default: image")
    add("--depth-column", help="default: depth")
    add("--dry-run", action="store_true", help="measure, and write nothing")
    add_on_error(parser, "rows")
    add_batch_size(parser)
    add_device(parser)
    add_depth_units(parser)
    add_overwrite(parser)
    add_format(parser, "the calibration as config.json holds it, and what was measured of every score")


def run(args: argparse.Namespace) -> Result | None:
    """Measure, and write the calibration; the main process returns the result.

    Raises:
        ValueError: if the model or the data lacks what is needed, or a row cannot be read.
        OSError: if there is a calibration already, or it cannot be written.
    """
    from pathlib import Path

    folder = Path(args.model)
    if args.interpolate:
        raise ValueError("--interpolate: a calibration is of images of the model's own size")
    if not args.dry_run and not folder.is_dir():  # the imports below take seconds
        reason = "not a folder, and a calibration is written into the config.json of one"
        raise InputError(path=args.model, reason=reason, hint="download the repo, or give --dry-run")
    from ..data.splits import left_out_of
    from ..evaluation.calibrate import CalibrationOptions, calibrate
    from ..launched_processes import launched_processes
    from ..modalities import modalities
    from ..zero_shot import check_calibrated, write_calibration
    from .classify import read_labels

    if not args.dry_run:
        check_calibrated(folder, args.overwrite)
    processes = launched_processes(args.device)
    model = load_model(args, processes.device)
    units = depth_units(args, *(["depth"] if "depth" in (args.modalities or modalities(model)) else []))
    options = CalibrationOptions(
        dataset=args.dataset,
        label_column=args.label_column,
        split=args.split,
        unknown_dataset=args.unknown_dataset,
        unknown_split=args.unknown_split,
        labels=read_labels(args.labels) if args.labels else None,
        labels_split=args.labels_split,
        background=read_labels(args.background) if args.background else (),
        kept=args.kept,
        score=args.score,
        modalities=args.modalities,
        image_column=args.image_column,
        depth_column=args.depth_column,
        on_error=on_error(args),
        batch_size=args.batch_size,
        depth_units=units or None,
        **({"templates": args.template} if args.template else {}),
    )
    result = calibrate(model, options, processes)
    if result is None:
        return None
    if not args.dry_run:
        write_calibration(folder, result.calibration, overwrite=args.overwrite)
    for name in dict.fromkeys(filter(None, [args.dataset, args.unknown_dataset])):
        say(left_out_of(name))
    _say_rows(result)
    if "depth" in result.measured:
        say_units(model, units)
    content = {
        "calibration": result.calibration.to_dict(),
        "measured": {
            modality: [
                {"score": one.calibration.score, "measured": one.calibration.measured, "chosen": one.is_chosen}
                for one in found
            ]
            for modality, found in result.measured.items()
        },
    }
    written = (
        [] if args.dry_run else [f"written into {folder / 'config.json'}; classify --threshold calibrated uses it"]
    )
    return Result([*_table(result), *written], content)


def _say_rows(result: "CalibrationResult") -> None:
    """Print on stderr which rows were left out."""
    if result.left_out:
        say(f"left out: {counted(result.left_out, 'row')} of the unknown data, which have one of the labels")
    for which, cells in result.skipped.items():
        skipped: list[SkippedInput] = [
            {"index": one["index"], "name": f"row {one['index']}, {one['column']}", "reason": one["reason"]}
            for one in cells
        ]
        say_skipped(skipped, len(skipped), f"{which} cell")


def _table(result: "CalibrationResult") -> list[str]:
    """For each modality a line per score and number of labels."""
    rows = f"{counted(result.known, 'row')} with one of {counted(result.labels, 'label')}, {result.unknown:,} with none"
    lines = [f"{rows}; half of them choose, the others are measured"]
    for modality, found in result.measured.items():
        lines += ["", f"{modality:<12}labels  threshold  {'  '.join(f'{title:>9}' for title in _TITLES.values())}"]
        for one in found:
            lines += _lines_of(one)
    return lines


def _lines_of(measured: "Measured") -> list[str]:
    name = f"{'*' if measured.is_chosen else ' '} {measured.calibration.score}"
    lines: list[str] = []
    for number, row in measured.calibration.measured.items():
        values = "  ".join(f"{row[measure]:>9.3f}" for measure in _TITLES)
        lines.append(f"{name:<12}{number:>6}  {row['threshold']:>9.4g}  {values}")
    return lines
