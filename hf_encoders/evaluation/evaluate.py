"""How good a model is on a data set: retrieval, zero-shot classification, nearest neighbours and a linear probe."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState

from .._version import __version__
from ..data.splits import data_revision, load_splits
from ..fingerprint import identity
from ..modalities import MODALITIES, PICTURES, default_modality, encoder, modalities
from ..versions import library_versions
from .embedded_columns import EmbeddedRows, embed_rows
from .tasks import probe, read_labels, retrieval, zero_shot

_PROBES = ("knn", "linear-probe")
_COLUMNS = {"text": "caption", "image": "image", "depth": "depth"}
_LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "numpy")


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured on what.

    Args:
        dataset: Hub id, folder or parquet file.
        tasks: "retrieval", "zero-shot", "knn", "linear-probe".
        split: what is measured on.
        train_dataset: what the probes learn from; `dataset` by default.
        train_split: its split.
        modalities: what is embedded; by default what model and data both have.
        text_column: one caption or a list of them; "caption" by default.
        image_column: "image" by default.
        depth_column: "depth" by default.
        label_columns: classes.
        templates: prompts for zero-shot, with {} for the label.
        k: neighbours of knn.
        limit: the first so many rows of each split.
        on_error: "raise" or "skip": what to do with rows that cannot be read.
        batch_size: inputs that are embedded at a time.
        dtype: precision of the computation.
    """

    dataset: str
    tasks: Sequence[str] = ("retrieval",)
    split: str = "test"
    train_dataset: str | None = None
    train_split: str = "train"
    modalities: Sequence[str] | None = None
    text_column: str | None = None
    image_column: str | None = None
    depth_column: str | None = None
    label_columns: Sequence[str] = ()
    templates: Sequence[str] | None = None
    k: int = 20
    limit: int | None = None
    on_error: str = "raise"
    batch_size: int = 32
    dtype: str | None = None


def evaluate(model: Any, options: EvaluationOptions, processes: PartialState) -> dict[str, Any] | None:
    """The metrics, and what was measured on what. Every process calls this; the main one gets the result.

    Raises:
        ValueError: if model and data have not what a task needs, or a row cannot be read.
    """
    encoder(model, default_modality(model))  # refuses what is no encoder of this project
    with processes.local_main_process_first():  # the others find what it has downloaded and prepared
        test, train = _open(options)
    columns = _choose_columns(options, model, test)
    train_columns = _choose_train_columns(options, columns, train) if train else {}
    label_columns = _choose_labels(options, [part for part in (test, train) if part])
    how = {"on_error": options.on_error, "batch_size": options.batch_size, "dtype": options.dtype}
    with test.named():
        labels = [read_labels(test.rows, column) for column in label_columns]
        embedded = embed_rows(model, test.rows, columns, processes, **how)
    if train:
        with train.named():
            train_labels = [read_labels(train.rows, column) for column in label_columns]
            train_embedded = embed_rows(model, train.rows, train_columns, processes, **how)
    if not processes.is_main_process:
        return None

    metrics = retrieval(embedded) if "retrieval" in options.tasks else {}
    for place, one in enumerate(labels):
        if "zero-shot" in options.tasks:
            metrics |= zero_shot(model, embedded, one, options.templates)
        for task in _PROBES:
            if task in options.tasks:
                metrics |= probe(task, train_embedded, train_labels[place], embedded, one, options.k)
    made_by = identity(model)
    return {
        "model": made_by.pop("name_or_path"),
        **made_by,
        **test.report(embedded),
        **({"train": train.report(train_embedded)} if train else {}),
        "columns": columns,
        "options": {name: getattr(options, name) for name in ("templates", "k", "dtype", "limit")},
        "metrics": metrics,
        "versions": {"hf_encoders": __version__} | library_versions(_LIBRARIES),
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


def _open(options: EvaluationOptions) -> tuple[Split, Split | None]:
    """What is measured on; and what the probes learn from, if there are any."""
    splits = load_splits(options.dataset, options.split)
    test = _split(options.dataset, options.split, splits, "--split", options.limit)
    train = None
    if set(_PROBES) & set(options.tasks):
        name = options.train_dataset or options.dataset
        splits = load_splits(name, options.train_split) if options.train_dataset else splits
        train = _split(name, options.train_split, splits, "--train-split, or give --train-dataset", options.limit)
        if train.rows.cache_files == test.rows.cache_files:
            raise ValueError(f"{name}: train and test are the same rows; give another --train-split or --train-dataset")
    return test, train


def _split(name: str, split: str, splits: Mapping[str, Any], option: str, limit: int | None) -> Split:
    if split not in splits:
        raise ValueError(f"{name}: no split {split!r}, it has {', '.join(splits)}; choose with {option}")
    rows = splits[split]
    return Split(name, split, rows if limit is None else rows.take(min(limit, len(rows))))


def _choose_columns(options: EvaluationOptions, model: Any, test: Split) -> dict[str, str]:
    """Modality → column, of what is embedded."""
    given = {"text": options.text_column, "image": options.image_column, "depth": options.depth_column}
    columns = {modality: given[modality] or default for modality, default in _COLUMNS.items()}
    chosen = options.modalities or [
        modality
        for modality, column in columns.items()
        if given[modality] or (modality in modalities(model) and column in test.rows.column_names)
    ]
    for modality in chosen:
        encoder(model, modality)  # refuses what the model does not embed
    test.require(columns[modality] for modality in chosen)
    found = f"model and {test.name} share {', '.join(chosen) or 'none'} (see --text-column and the like)"
    if "retrieval" in options.tasks and len(set(chosen)) < 2:
        raise ValueError(f"--tasks retrieval needs two of {', '.join(MODALITIES)}; {found}")
    if "zero-shot" in options.tasks:
        encoder(model, "text")
    if set(options.tasks) != {"retrieval"} and not set(PICTURES) & set(chosen):
        raise ValueError(f"--tasks {' '.join(options.tasks)} needs {' or '.join(PICTURES)}; {found}")
    # Labels are embedded by zero-shot itself; captions are for retrieval.
    return {name: columns[name] for name in chosen if name != "text" or "retrieval" in options.tasks}


def _choose_train_columns(options: EvaluationOptions, columns: Mapping[str, str], train: Split) -> dict[str, str]:
    """Those pictures that are embedded of test too: all, or by default those that train has."""
    pictures: dict[str, str] = {name: column for name, column in columns.items() if name in PICTURES}
    if not options.modalities:
        pictures = {name: column for name, column in pictures.items() if column in train.rows.column_names} or pictures
    train.require(pictures.values())
    return pictures


def _choose_labels(options: EvaluationOptions, parts: Sequence[Split]) -> list[str]:
    tasks = [task for task in options.tasks if task != "retrieval"]
    if not tasks:
        return []
    if not options.label_columns:
        found = ", ".join(parts[0].rows.column_names)
        raise ValueError(f"--tasks {' '.join(tasks)}: give --label-column; {parts[0].name} has {found}")
    for part in parts:
        part.require(options.label_columns)
    return list(options.label_columns)
