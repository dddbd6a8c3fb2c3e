"""Measures a model on a data set: retrieval, zero-shot classification, nearest neighbours and a linear probe.

    hf-encoders evaluate MODEL samples/rooms/test.parquet --output metrics.json
    hf-encoders evaluate MODEL OWNER/NAME --tasks zero-shot knn --label-column noun
    accelerate launch -m hf_encoders.commands.evaluate MODEL OWNER/NAME

Under `accelerate launch` or torchrun each process embeds its share of the rows, and the first one computes. In a clone,
`training/evaluate.py` does the same.
"""

import argparse
import sys
from collections.abc import Sequence
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
    add("--split", default="test", help="the rows that are measured (default: %(default)s)")
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
    add_overwrite(parser)
    add_format(parser, "the document that --output writes")


def run(args: argparse.Namespace) -> Result | None:
    """Measure the model, and write the report if asked to; the main process returns the result.

    Raises:
        ValueError: if the model or the data lacks what a task needs, or a row cannot be read.
        OSError: if the output exists already or cannot be written.
    """
    if args.output:
        from ..outputs import check_file

        check_file(args.output, args.overwrite)  # the imports below take seconds
    from dataclasses import fields

    import torch

    from ..data.splits import left_out_of
    from ..evaluation.evaluate import COLUMNS, EvaluationOptions, evaluate
    from ..launched_processes import launched_processes
    from ..modalities import modalities
    from ..outputs import new_file

    was_joined = torch.distributed.is_initialized()
    processes = launched_processes(args.device)
    try:
        model = load_model(args, processes.device)
        names = [field.name for field in fields(EvaluationOptions)]
        reads_depth = "depth" in modalities(model) and "depth" in (args.modalities or ("depth",))
        units = depth_units(args, *(["depth"] if reads_depth else []))
        args.depth_units = units or None
        args.on_error = on_error(args)
        report = evaluate(model, EvaluationOptions(**{name: getattr(args, name) for name in names}), processes)
    finally:
        if torch.distributed.is_initialized() and not was_joined:  # a group that the caller began goes on
            torch.distributed.destroy_process_group()
    if report:
        for name in dict.fromkeys(filter(None, [args.dataset, args.train_dataset])):
            say(left_out_of(name))
    for modality, column in (report or {}).get("columns", {}).items():
        if column not in (getattr(args, f"{modality}_column"), COLUMNS[modality]):
            say(f"{modality}: no column {COLUMNS[modality]!r}, {column!r} is taken; --{modality}-column names another")
    if report and "depth" in report["columns"]:
        say_units(model, units)
    for part in [report, report.get("train")] if report else []:
        if part and part["skipped_rows"]:
            skipped: list[SkippedInput] = [
                {"index": one["index"], "name": f"row {one['index']}, {one['column']}", "reason": one["reason"]}
                for one in part["skipped"]
            ]
            say_skipped(skipped, part["skipped_rows"], f"{part['split']} row", str(args.output or ""))
    if report and args.output:
        with new_file(args.output, args.overwrite) as partial:
            partial.write_text(to_json(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Result(_table(report), report) if report else None


def _table(report: "Report") -> list[str]:
    """The metrics, one per line."""
    from ..evaluation.tasks import metric_lines

    skipped = f", {report['skipped_rows']} skipped" if report["skipped_rows"] else ""
    title = f"{report['model']} on {report['dataset']} ({report['split']}, {counted(report['rows'], 'row')}{skipped})"
    return [title, *metric_lines(report["metrics"])]


if __name__ == "__main__":
    main()
