"""How good a model is on a data set: retrieval, zero-shot classification, nearest neighbours and a linear probe.

    python training/evaluate.py MODEL --dataset samples/rooms/test.parquet --output metrics.json
    accelerate launch training/evaluate.py MODEL --dataset OWNER/NAME --tasks zero-shot knn --label-column noun

Under `accelerate launch` or torchrun each process embeds its share of the rows, and the first one computes.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import disable_progress_bars
from transformers import AutoModel
from transformers.utils import logging

import hf_encoders

from ..command_line import OneLineArgumentParser, run
from ..data.splits import data_revision, load_splits
from ..evaluation.embedded_columns import EmbeddedRows, embed_rows
from ..evaluation.tasks import PICTURES, metric_lines, probe, read_labels, retrieval, zero_shot
from ..fingerprint import identity
from ..launched_processes import launched_processes
from ..modalities import MODALITIES, default_modality, encoder, modalities
from ..outputs import check_file, new_file

_PROBES = ("knn", "linear-probe")
_TASKS = ("retrieval", "zero-shot", *_PROBES)
_COLUMNS = {"text": "caption", "image": "image", "depth": "depth"}
_LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "numpy")


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit status 2."""
    try:
        run(lambda: command(sys.argv[1:]))
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def command(argv: Sequence[str]) -> None:
    """Measure what the arguments name, print it, and write it if asked to."""
    args = _parse(argv)
    if args.output:
        check_file(args.output, args.overwrite)
    logging.disable_progress_bar()  # of loading; the bar of encoding stays
    disable_progress_bars()
    processes = launched_processes(args.device)
    model = AutoModel.from_pretrained(args.model).to(args.device or processes.device)
    report = evaluate(model, args, processes)
    if report:
        print(_table(report))
        if args.output:
            with new_file(args.output, args.overwrite) as partial:
                partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def evaluate(model: Any, args: argparse.Namespace, processes: PartialState) -> dict[str, Any] | None:
    """The metrics, and what was measured on what. Every process calls this; the main one gets the result.

    Raises:
        ValueError: if model and data have not what a task needs, or a row cannot be read.
    """
    encoder(model, default_modality(model))  # refuses what is no encoder of this project
    with processes.local_main_process_first():  # the others find what it has downloaded and prepared
        test, train = _open(args)
    columns = _choose_columns(args, model, test)
    train_columns = _choose_train_columns(args, columns, train) if train else {}
    label_columns = _choose_labels(args, [part for part in (test, train) if part])
    options = {"on_error": args.on_error, "batch_size": args.batch_size, "dtype": args.dtype}
    with test.named():
        labels = [read_labels(test.rows, column) for column in label_columns]
        embedded = embed_rows(model, test.rows, columns, processes, **options)
    if train:
        with train.named():
            train_labels = [read_labels(train.rows, column) for column in label_columns]
            train_embedded = embed_rows(model, train.rows, train_columns, processes, **options)
    if not processes.is_main_process:
        return None

    metrics = retrieval(embedded) if "retrieval" in args.tasks else {}
    for place, one in enumerate(labels):
        if "zero-shot" in args.tasks:
            metrics |= zero_shot(model, embedded, one, args.templates)
        for task in _PROBES:
            if task in args.tasks:
                metrics |= probe(task, train_embedded, train_labels[place], embedded, one, args.k)
    made_by = identity(model)
    return {
        "model": made_by.pop("name_or_path"),
        **made_by,
        **test.report(embedded),
        **({"train": train.report(train_embedded)} if train else {}),
        "columns": columns,
        "options": {name: getattr(args, name) for name in ("templates", "k", "dtype", "limit")},
        "metrics": metrics,
        "versions": {"hf_encoders": hf_encoders.__version__} | {name: version(name) for name in _LIBRARIES},
    }


@dataclass(frozen=True)
class Split:
    """The rows of one split, and where they are from."""

    name: str
    split: str
    rows: Any

    def require(self, columns: Iterable[str]) -> None:
        """Refuse a data set without one of the columns."""
        for column in columns:
            if column not in self.rows.column_names:
                raise ValueError(f"{self.name}: no column {column!r}; it has {', '.join(self.rows.column_names)}")

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors about a row or label say which data they are of."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def report(self, embedded: EmbeddedRows) -> dict[str, Any]:
        """What was measured on."""
        count = int(embedded.kept.sum())
        origin = {"dataset": self.name, "split": self.split} | data_revision(self.name, self.split)
        return origin | {"rows": count, "skipped_rows": len(embedded.kept) - count}


def _open(args: argparse.Namespace) -> tuple[Split, Split | None]:
    """What is measured on; and what the probes learn from, if there are any."""
    splits = load_splits(args.dataset, args.split)
    test = _split(args.dataset, args.split, splits, "--split", args.limit)
    train = None
    if set(_PROBES) & set(args.tasks):
        name = args.train_dataset or args.dataset
        splits = load_splits(name, args.train_split) if args.train_dataset else splits
        train = _split(name, args.train_split, splits, "--train-split, or give --train-dataset", args.limit)
        if train.rows.cache_files == test.rows.cache_files:
            raise ValueError(f"{name}: train and test are the same rows; give another --train-split or --train-dataset")
    return test, train


def _split(name: str, split: str, splits: Mapping[str, Any], option: str, limit: int | None) -> Split:
    if split not in splits:
        raise ValueError(f"{name}: no split {split!r}, it has {', '.join(splits)}; choose with {option}")
    rows = splits[split]
    return Split(name, split, rows if limit is None else rows.take(min(limit, len(rows))))


def _choose_columns(args: argparse.Namespace, model: Any, test: Split) -> dict[str, str]:
    """Modality → column, of what is embedded."""
    given = {"text": args.text_column, "image": args.image_column, "depth": args.depth_column}
    columns = {modality: given[modality] or default for modality, default in _COLUMNS.items()}
    chosen = args.modalities or [
        modality
        for modality, column in columns.items()
        if given[modality] or (modality in modalities(model) and column in test.rows.column_names)
    ]
    for modality in chosen:
        encoder(model, modality)  # refuses what the model does not embed
    test.require(columns[modality] for modality in chosen)
    found = f"model and {test.name} share {', '.join(chosen) or 'none'} (see --text-column and the like)"
    if "retrieval" in args.tasks and len(set(chosen)) < 2:
        raise ValueError(f"--tasks retrieval needs two of {', '.join(MODALITIES)}; {found}")
    if "zero-shot" in args.tasks:
        encoder(model, "text")
    if set(args.tasks) != {"retrieval"} and not set(PICTURES) & set(chosen):
        raise ValueError(f"--tasks {' '.join(args.tasks)} needs {' or '.join(PICTURES)}; {found}")
    # Labels are embedded by zero-shot itself; captions are for retrieval.
    return {name: columns[name] for name in chosen if name != "text" or "retrieval" in args.tasks}


def _choose_train_columns(args: argparse.Namespace, columns: Mapping[str, str], train: Split) -> dict[str, str]:
    """Those pictures that are embedded of test too: all, or by default those that train has."""
    pictures = {name: column for name, column in columns.items() if name in PICTURES}
    if not args.modalities:
        pictures = {name: column for name, column in pictures.items() if column in train.rows.column_names} or pictures
    train.require(pictures.values())
    return pictures


def _choose_labels(args: argparse.Namespace, parts: Sequence[Split]) -> list[str]:
    tasks = [task for task in args.tasks if task != "retrieval"]
    if not tasks:
        return []
    if not args.label_column:
        found = ", ".join(parts[0].rows.column_names)
        raise ValueError(f"--tasks {' '.join(tasks)}: give --label-column; {parts[0].name} has {found}")
    for part in parts:
        part.require(args.label_column)
    return args.label_column


def _table(report: Mapping[str, Any]) -> str:
    """The metrics, one a line."""
    skipped = f", {report['skipped_rows']} skipped" if report["skipped_rows"] else ""
    title = f"{report['model']} on {report['dataset']} ({report['split']}, {report['rows']} rows{skipped})"
    return "\n".join([title, *metric_lines(report["metrics"])])


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("model", help="folder or Hub id of a multimodal or a depth encoder")
    add("--dataset", required=True, help="Hub id, folder or parquet file")
    add("--tasks", nargs="+", choices=_TASKS, default=["retrieval"], help="default: retrieval")
    add("--split", default="test", help="what is measured on (default: %(default)s)")
    add("--train-dataset", help="what knn and linear-probe learn from; default: --dataset")
    add("--train-split", default="train", help="default: %(default)s")
    add("--modalities", nargs="+", choices=MODALITIES, help="default: what model and data both have")
    add("--text-column", help="one caption or a list of them; default: caption")
    add("--image-column", help="default: image")
    add("--depth-column", help="default: depth")
    add("--label-column", action="append", default=[], help="classes; may be given several times")
    add("--templates", nargs="+", help="prompts for zero-shot, with {} for the label (default: a photo of a {}.)")
    add("--k", type=_count, default=20, help="neighbours of knn (default: %(default)s)")
    add("--limit", type=_count, help="use the first so many rows of each split")
    add("--on-error", choices=("raise", "skip"), default="raise", help="what to do with rows that cannot be read")
    add("--batch-size", type=_count, default=32, help="default: %(default)s")
    add("--dtype", choices=("bfloat16", "float16"), help="compute in half precision")
    add("--device", help="default: what Accelerate chooses")
    add("--output", type=Path, help="a JSON file for the metrics, the data's revision and the model's fingerprint")
    add("--overwrite", action="store_true", help="replace an existing output")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    main()
