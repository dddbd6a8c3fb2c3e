"""How good a model is on a data set: retrieval, zero-shot classification, nearest neighbours and a linear probe.

    hf-encoders evaluate MODEL --dataset samples/rooms/test.parquet --output metrics.json
    hf-encoders evaluate MODEL --dataset OWNER/NAME --tasks zero-shot knn --label-column noun
    accelerate launch -m hf_encoders.commands.evaluate MODEL --dataset OWNER/NAME

Under `accelerate launch` or torchrun each process embeds its share of the rows, and the first one computes. In a clone,
`training/evaluate.py` does the same.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import command_line
from ..progress import hide_library_bars
from .options import add_model, count

_TASKS = ("retrieval", "zero-shot", "knn", "linear-probe")
_MODALITIES = ("text", "image", "depth")


def main() -> None:
    """Run the command by itself; bad input ends in one line on stderr and exit status 2."""
    command_line.run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Parse the arguments and measure."""
    run(command_line.parse_alone("evaluate.py", __doc__, add_options, argv))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_model(parser)
    add = parser.add_argument
    add("--dataset", required=True, help="Hub id, folder or parquet file")
    add("--tasks", nargs="+", choices=_TASKS, default=["retrieval"], help="default: retrieval")
    add("--split", default="test", help="what is measured on (default: %(default)s)")
    add("--train-dataset", help="what knn and linear-probe learn from; default: --dataset")
    add("--train-split", default="train", help="default: %(default)s")
    add("--modalities", nargs="+", choices=_MODALITIES, help="default: what model and data both have")
    add("--text-column", help="one caption or a list of them; default: caption")
    add("--image-column", help="default: image")
    add("--depth-column", help="default: depth")
    add("--label-column", dest="label_columns", action="append", default=[], help="classes; may be given several times")
    add("--templates", nargs="+", help="prompts for zero-shot, with {} for the label (default: a photo of a {}.)")
    add("--k", type=count, default=20, help="neighbours of knn (default: %(default)s)")
    add("--limit", type=count, help="use the first so many rows of each split")
    add("--on-error", choices=("raise", "skip"), default="raise", help="what to do with rows that cannot be read")
    add("--batch-size", type=count, default=32, help="default: %(default)s")
    add("--dtype", choices=("bfloat16", "float16"), help="compute in half precision")
    add("--device", help="default: what Accelerate chooses")
    add("--output", type=Path, help="a JSON file for the metrics, the data's revision and the model's fingerprint")
    add("--overwrite", action="store_true", help="replace an existing output")


def run(args: argparse.Namespace) -> None:
    """Measure what the arguments name, print it, and write it if asked to.

    Raises:
        ValueError: if model and data have not what a task needs, or a row cannot be read.
        OSError: if the output exists already or cannot be written.
    """
    import torch
    from transformers import AutoModel

    from ..evaluation.evaluate import EvaluationOptions, evaluate
    from ..launched_processes import launched_processes
    from ..outputs import check_file, new_file

    if args.output:
        check_file(args.output, args.overwrite)
    hide_library_bars()  # the bar of encoding stays
    processes = launched_processes(args.device)
    try:
        model = AutoModel.from_pretrained(args.model).to(args.device or processes.device)
        names = [field.name for field in dataclasses.fields(EvaluationOptions)]
        report = evaluate(model, EvaluationOptions(**{name: getattr(args, name) for name in names}), processes)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if report:
        print(_table(report))
        if args.output:
            with new_file(args.output, args.overwrite) as partial:
                partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _table(report: Mapping[str, Any]) -> str:
    """The metrics, one a line."""
    from ..evaluation.tasks import metric_lines

    skipped = f", {report['skipped_rows']} skipped" if report["skipped_rows"] else ""
    title = f"{report['model']} on {report['dataset']} ({report['split']}, {report['rows']} rows{skipped})"
    return "\n".join([title, *metric_lines(report["metrics"])])


if __name__ == "__main__":
    main()
