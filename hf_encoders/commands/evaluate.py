"""Measures a model on a data set: retrieval, zero-shot classification, nearest neighbours and a linear probe.

    hf-encoders evaluate MODEL samples/rooms/test.parquet --output metrics.json
    hf-encoders evaluate MODEL OWNER/NAME --tasks zero-shot knn --label-column noun
    hf-encoders evaluate MODEL samples/rooms --split validation,unseen --card --figures MODEL/figures
    accelerate launch -m hf_encoders.commands.evaluate MODEL OWNER/NAME

Under `accelerate launch` or torchrun each process embeds its share of the rows, and the first one computes. In a clone,
`training/evaluate.py` does the same.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import command_line
from ..plurals import counted
from .options import (
    DATA_HELP,
    add_batch_size,
    add_depth_units,
    add_device,
    add_encoder,
    add_format,
    add_overwrite,
    count,
    depth_units,
    load_model,
    path,
    say,
    say_units,
)
from .runner import Result, perform_alone, to_json
from .skipping import add_on_error, on_error, say_skipped

if TYPE_CHECKING:
    from ..data.skipped import SkippedInput
    from ..evaluation.evaluate import Report
    from .figures.writing import Figures

_TASKS = ("retrieval", "zero-shot", "knn", "linear-probe")
_MODALITIES = ("text", "image", "depth")


def main() -> None:
    """Run the command by itself; bad input ends in one line on stderr and exit status 2."""
    command_line.run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Parse the arguments and measure."""
    perform_alone("evaluate.py", __doc__, add_options, run, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_encoder(parser)
    add = parser.add_argument
    add("dataset", help=DATA_HELP)
    add("--tasks", nargs="+", choices=_TASKS, default=["retrieval"], help="default: retrieval")
    add(
        "--split",
        default="test",
        help="the rows that are measured, or several: validation,unseen (default: %(default)s)",
    )
    add("--train-dataset", help=f"what knn and linear-probe learn from; default: the data set; else {DATA_HELP}")
    add("--train-split", default="train", help="default: %(default)s")
    add("--modalities", nargs="+", choices=_MODALITIES, help="default: all that the model and the data both have")
    add("--text-column", help="one caption or a list of them; default: caption, or the only column of texts")
    add("--image-column", help="default: image, or the only column of pictures")
    add("--depth-column", help="default: depth")
    add(
        "--label-column",
        dest="label_columns",
        action="append",
        default=[],
        help="a column of classes; may be given several times",
    )
    add("--templates", nargs="+", help="prompts for zero-shot, with {} for the label (default: a photo of a {}.)")
    add("--k", type=count, default=20, help="neighbours of knn (default: %(default)s)")
    add("--limit", type=count, help="use only this many rows of each split, the first ones")
    add_on_error(parser, "rows")
    add_batch_size(parser)
    add_device(parser)
    add("--dtype", choices=("bfloat16", "float16"), help="compute in half precision")
    add_depth_units(parser)
    add(
        "--output", type=path, help="write a JSON file with the metrics, the data's version and the model's fingerprint"
    )
    add(
        "--card",
        action="store_true",
        help="put the metrics into MODEL, a folder, and into its card; what was measured on other data or splits stays",
    )
    _add_figures(parser)
    add_overwrite(parser)
    add_format(parser, "the document that --output writes; of several splits JSON lines, one per split")


def _add_figures(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "pictures",
        "of retrieval: recall over k, similarities, captions and what they find; of other tasks: confusions",
    )
    add = group.add_argument
    add(
        *("--figures", "--plots"),
        type=path,
        metavar="DIR",
        help="draw them into this folder; each has its data beside it as JSON",
    )
    add("--captions", type=count, default=8, help="captions on a sheet (default: %(default)s)")
    add("--pictures", type=count, default=5, help="how many of the first pictures each shows (default: %(default)s)")
    add("--worst", action="store_true", help="show the captions whose right picture comes last")
    add(
        "--by",
        metavar="COLUMN",
        help="a column of the classes' groups, such as categories: draw confusions of these too",
    )


def run(args: argparse.Namespace) -> Result | None:
    """Measure the model, and write the report if asked to; the main process returns the result.

    Raises:
        ValueError: if the model or the data lacks what a task needs, or a row cannot be read.
        OSError: if the output exists already or cannot be written.
    """
    _check_options(args)  # the imports below take seconds
    from dataclasses import fields

    import torch

    from ..data.splits import left_out_of
    from ..evaluation.evaluate import EvaluationOptions, plan_evaluation
    from ..launched_processes import launched_processes
    from ..modalities import modalities

    was_joined = torch.distributed.is_initialized()
    processes = launched_processes(args.device)
    try:
        model = load_model(args, processes.device)
        names = [field.name for field in fields(EvaluationOptions)]
        reads_depth = "depth" in modalities(model) and "depth" in (args.modalities or ("depth",))
        units = depth_units(args, *(["depth"] if reads_depth else []))
        args.depth_units, args.group_column = units or None, args.by
        args.on_error = on_error(args)
        options = EvaluationOptions(**{name: getattr(args, name) for name in names})
        plan = plan_evaluation(model, options, processes)
        figures = _figures(args)
        drawn = figures.check(plan) if figures else []
        if args.card:
            from ..hub.card_results import check_card

            check_card(Path(args.model), model, drawn)
        measured = plan.measure()
    finally:
        if torch.distributed.is_initialized() and not was_joined:  # a group that the caller began goes on
            torch.distributed.destroy_process_group()
    if measured is None:
        return None
    for name in dict.fromkeys(filter(None, [args.dataset, args.train_dataset])):
        say(left_out_of(name))
    reports = [one.report for one in measured]
    _say_columns(args, reports)
    if "depth" in reports[0]["columns"]:
        say_units(model, units)
    _say_skipped(args, reports)
    if figures:
        figures.write(measured)
        say(f"figures: {args.figures}")
    return _written(args, reports)


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, and outputs that cannot be written.

    Raises:
        ValueError: for the options.
        OSError: if the output exists already.
    """
    if args.output:
        from ..outputs import check_file

        check_file(args.output, args.overwrite)
    if args.figures is None and (args.by or args.worst):
        raise ValueError(f"--{'by' if args.by else 'worst'} is about pictures: give --figures DIR too")
    if args.by and (not args.label_columns or set(args.tasks) == {"retrieval"}):
        raise ValueError(f"--by {args.by} groups classes: give their --label-column, and a task such as zero-shot")


def _figures(args: argparse.Namespace) -> "Figures | None":
    if args.figures is None:
        return None
    from .figures.retrieval_sheet import SheetOptions
    from .figures.writing import Figures

    return Figures(args.figures, args.overwrite, SheetOptions(args.captions, args.pictures, args.worst))


def _say_columns(args: argparse.Namespace, reports: "Sequence[Report]") -> None:
    """The columns that were taken though nobody named them."""
    from ..evaluation.options import COLUMNS

    taken = dict.fromkeys(item for report in reports for item in report["columns"].items())
    for modality, column in taken:
        if column not in (getattr(args, f"{modality}_column"), COLUMNS[modality]):
            say(f"{modality}: no column {COLUMNS[modality]!r}, {column!r} is taken; --{modality}-column names another")


def _say_skipped(args: argparse.Namespace, reports: "Sequence[Report]") -> None:
    for part in [*reports, reports[0].get("train")]:
        if part and part["skipped_rows"]:
            skipped: list[SkippedInput] = [
                {"index": one["index"], "name": f"row {one['index']}, {one['column']}", "reason": one["reason"]}
                for one in part["skipped"]
            ]
            say_skipped(skipped, part["skipped_rows"], f"{part['split']} row", str(args.output or ""))


def _written(args: argparse.Namespace, reports: "list[Report]") -> Result:
    """Write what was asked for; returns what is printed."""
    from ..outputs import new_file

    content = reports if len(reports) > 1 else reports[0]
    if args.output:
        with new_file(args.output, args.overwrite) as partial:
            partial.write_text(to_json(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if args.card:
        from ..hub.card_results import add_results

        card = add_results(Path(args.model), reports, trust_remote_code=args.trust_remote_code)
        say(f"card: {card}")
    return Result(_table(reports), content)


def _table(reports: "Sequence[Report]") -> list[str]:
    """The metrics, one per line, side by side for several splits."""
    from ..evaluation.tasks import compared_lines, metric_lines

    titles = []
    for report in reports:
        skipped = f", {report['skipped_rows']} skipped" if report["skipped_rows"] else ""
        rows = f"{report['split']}, {counted(report['rows'], 'row')}{skipped}"
        titles.append(f"{report['model']} on {report['dataset']} ({rows})")
    if len(reports) == 1:
        return [*titles, *metric_lines(reports[0]["metrics"])]
    return [*titles, *compared_lines({report["split"]: report["metrics"] for report in reports})]


if __name__ == "__main__":
    main()
