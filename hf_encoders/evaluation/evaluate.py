"""How good a model is on a data set: retrieval, zero-shot classification, nearest neighbours and a linear probe."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from accelerate import PartialState
from datasets import Dataset

from .._version import __version__
from ..data.cells import columns_of
from ..data.columns import Columns
from ..data.location import split_file
from ..data.splits import Rows, data_revision, load_splits
from ..fingerprint import identity
from ..modalities import MODALITIES, PICTURES, Encoder, Modality, default_modality, encoder, modalities
from ..models.depth_units import DepthUnits
from ..models.encoding import DtypeName
from ..versions import library_versions
from .embedded_columns import EmbeddedColumns, embed_columns
from .probes import need_scikit_learn
from .tasks import Labels, probe, read_labels, retrieval, zero_shot

Task = Literal["retrieval", "zero-shot", "knn", "linear-probe"]
# What is written as JSON.
Report: TypeAlias = dict[str, Any]

_PROBES: tuple[Task, ...] = ("knn", "linear-probe")
COLUMNS: Mapping[Modality, str] = {"text": "caption", "image": "image", "depth": "depth"}
_LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "numpy")


@dataclass(frozen=True)
class EvaluationOptions:
    """Which tasks are measured on which data.

    Args:
        dataset: see `hf_encoders.data.location.locate`.
        tasks: "retrieval", "zero-shot", "knn", "linear-probe".
        split: the split to measure on.
        train_dataset: the data set that the probes learn from; `dataset` by default.
        train_split: its split.
        modalities: the modalities to embed; by default those that model and data both have.
        text_column: captions, one per row or a list of them; by default "caption", or the only column of texts.
        image_column: by default "image", or the only column of pictures.
        depth_column: "depth" by default.
        label_columns: the columns of the classes.
        templates: prompts for zero-shot, with {} for the label.
        k: the number of neighbours of knn.
        limit: use only the first rows of each split, this many.
        on_error: "raise" or "skip" for rows that cannot be read.
        batch_size: how many inputs are embedded at a time.
        dtype: "bfloat16" or "float16" to compute in half precision.
        depth_units: what the raw values of depth maps mean: see `DepthUnits`.
    """

    dataset: str
    tasks: Sequence[Task] = ("retrieval",)
    split: str = "test"
    train_dataset: str | None = None
    train_split: str = "train"
    modalities: Sequence[Modality] | None = None
    text_column: str | None = None
    image_column: str | None = None
    depth_column: str | None = None
    label_columns: Sequence[str] = ()
    templates: Sequence[str] | None = None
    k: int = 20
    limit: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    batch_size: int = 32
    dtype: DtypeName | None = None
    depth_units: DepthUnits | None = None


def evaluate(model: Encoder, options: EvaluationOptions, processes: PartialState) -> Report | None:
    """Measure a model. Every process calls this; the main one gets the result.

    Returns:
        The metrics; and the model, data, options and versions that they are of.

    Raises:
        ValueError: if model or data lack what a task needs, scikit-learn is missing that the linear probe needs, or a
            row cannot be read.
    """
    if "linear-probe" in options.tasks:
        need_scikit_learn()
    encoder(model, default_modality(model))  # refuses a model that is no encoder of this project
    with processes.local_main_process_first():  # the others find what it has downloaded and prepared
        test, train = _open(options)
    columns = _choose_columns(options, model, test)
    train_columns = _choose_train_columns(options, columns, train) if train else {}
    label_columns = _choose_labels(options, [split for split in (test, train) if split])
    test_part = _embed(model, test, columns, label_columns, options, processes)
    train_part = _embed(model, train, train_columns, label_columns, options, processes) if train else None
    if not processes.is_main_process:
        return None

    maker = identity(model)
    chosen = {name: value for name in ("pooling", "interpolate") if (value := getattr(model, name, None))}
    report: Report = {"model": maker.pop("name_or_path"), **maker, **chosen, **test.report(test_part.embedded)}
    if train and train_part:
        report["train"] = train.report(train_part.embedded)
    return report | {
        "columns": columns,
        "options": {name: getattr(options, name) for name in ("templates", "k", "dtype", "limit", "depth_units")},
        "metrics": _metrics(model, options, test_part, train_part),
        "versions": {"hf_encoders": __version__} | library_versions(_LIBRARIES),
    }


@dataclass(frozen=True)
class Split:
    """The rows of one split, and where they are from."""

    name: str
    split: str
    rows: Dataset

    @property
    def columns(self) -> Columns:
        """Its columns, to choose from."""
        return columns_of(self.name, self.rows)

    def require(self, columns: Iterable[str], option: str) -> None:
        """Refuse a data set without one of the columns.

        Args:
            columns: their names.
            option: the option that names such a column.
        """
        for column in columns:
            self.columns.require(column, option)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors about a row or label say which data set it is of."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def report(self, embedded: EmbeddedColumns) -> Report:
        """The data set, its version, and the number of rows."""
        count = int(embedded.kept.sum())
        origin = {"dataset": self.name, "split": self.split} | data_revision(self.name, self.split)
        return origin | {"rows": count, "skipped_rows": len(embedded.kept) - count, "skipped": embedded.skipped}


@dataclass(frozen=True)
class _Part:
    """What the tasks need of a split: its embeddings, and its labels by each label column."""

    embedded: EmbeddedColumns
    labels: list[Labels]


def _embed(
    model: Encoder,
    split: Split,
    columns: Mapping[str, str],
    label_columns: Sequence[str],
    options: EvaluationOptions,
    processes: PartialState,
) -> _Part:
    with split.named():
        labels = [read_labels(split.rows, column) for column in label_columns]
        embedded = embed_columns(
            model,
            split.rows,
            columns,
            processes,
            on_error=options.on_error,
            batch_size=options.batch_size,
            dtype=options.dtype,
            depth_units=options.depth_units,
            # Captions ask for pictures, as texts do in `search`; texts that are probed are what is found.
            text_task="query" if "retrieval" in options.tasks else "document",
        )
    return _Part(embedded, labels)


def _metrics(model: Encoder, options: EvaluationOptions, test: _Part, train: _Part | None) -> dict[str, float]:
    metrics = retrieval(test.embedded) if "retrieval" in options.tasks else {}
    for index, labels in enumerate(test.labels):
        if "zero-shot" in options.tasks:
            metrics |= zero_shot(model, test.embedded, labels, options.templates)
        for task in _PROBES:
            if task in options.tasks and train:
                metrics |= probe(task, train.embedded, train.labels[index], test.embedded, labels, options.k)
    return metrics


def _open(options: EvaluationOptions) -> tuple[Split, Split | None]:
    """The split to measure on; and the one that the probes learn from, if there are any."""
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


def _split(name: str, split: str, splits: Mapping[str, Rows], option: str, limit: int | None) -> Split:
    if split not in splits and (file := split_file(name, split)):
        splits = load_splits(file, split)
    if split not in splits:
        raise ValueError(f"{name}: no split {split!r}, it has {', '.join(splits)}; choose with {option}")
    rows = splits[split]
    return Split(name, split, rows if limit is None else rows.take(min(limit, len(rows))))


def _choose_columns(options: EvaluationOptions, model: Encoder, test: Split) -> dict[str, str]:
    """Modality → the column that is embedded."""
    given: Mapping[Modality, str | None] = {
        "text": options.text_column,
        "image": options.image_column,
        "depth": options.depth_column,
    }
    wanted = options.modalities or [name for name in MODALITIES if given[name] or name in modalities(model)]
    for modality in wanted:
        if options.modalities or given[modality]:
            encoder(model, modality)  # refuses a modality that the model does not embed
    columns = _find_columns(options, given, wanted, test)
    chosen = list(columns)
    found = f"model and {test.name} share {', '.join(chosen) or 'none'}; the data has {test.columns.listed()}"
    found += " (--text-column, --image-column and --depth-column name columns)"
    if "retrieval" in options.tasks and len(set(chosen)) < 2:
        raise ValueError(f"--tasks retrieval needs two of {', '.join(MODALITIES)}; {found}")
    if "zero-shot" in options.tasks:
        encoder(model, "text")
    of_texts = chosen == ["text"] and modalities(model) == ("text",) and "zero-shot" not in options.tasks
    if set(options.tasks) != {"retrieval"} and not set(PICTURES) & set(chosen) and not of_texts:
        raise ValueError(f"--tasks {' '.join(options.tasks)} needs {' or '.join(PICTURES)}; {found}")
    # Labels are embedded by zero-shot itself; captions are for retrieval, and probed where a model has nothing else.
    return {name: columns[name] for name in chosen if name != "text" or of_texts or "retrieval" in options.tasks}


def _find_columns(
    options: EvaluationOptions, given: Mapping[Modality, str | None], wanted: Sequence[Modality], test: Split
) -> dict[Modality, str]:
    """Modality → its column: the one given, the one with the usual name, or else the only one that can be it.

    What nobody asked for by name, and cannot be found, is left out. Depth maps go by their name alone, unless they are
    asked for: a column of pictures is one of images.
    """
    known = test.columns
    taken = {column for column in [*given.values(), *options.label_columns] if column}
    columns: dict[Modality, str] = {}
    for modality in wanted:
        usual, option = COLUMNS[modality], f"--{modality}-column"
        others = {*taken, *columns.values(), *(set(COLUMNS.values()) - {usual})} - {given[modality]}
        if given[modality] or options.modalities:
            column = known.choose(
                modality, given[modality], option=option, usual=usual, taken=others, lists=modality == "text"
            )
            columns[modality] = column
        elif usual in known.features:
            columns[modality] = usual
        elif modality == "image" or (modality == "text" and _reads_texts(options, wanted)):
            found = known.candidates(modality, usual=usual, taken=others, lists=modality == "text")
            columns |= {modality: found[0]} if len(found) == 1 else {}
    return columns


def _reads_texts(options: EvaluationOptions, wanted: Sequence[Modality]) -> bool:
    """Whether captions are needed: for retrieval, and where a model embeds nothing else."""
    return "retrieval" in options.tasks or list(wanted) == ["text"]


def _choose_train_columns(options: EvaluationOptions, columns: Mapping[str, str], train: Split) -> dict[str, str]:
    """Modality → the column that the probes learn from.

    These are the pictures of test: all that were asked for, or by default those that train has; texts without pictures.
    """
    if set(columns) == {"text"}:
        train.require(columns.values(), "--text-column")
        return dict(columns)
    pictures: dict[str, str] = {name: column for name, column in columns.items() if name in PICTURES}
    if not options.modalities:
        pictures = {name: column for name, column in pictures.items() if column in train.rows.column_names} or pictures
    for name, column in pictures.items():
        train.require([column], f"--{name}-column")
    return pictures


def _choose_labels(options: EvaluationOptions, parts: Sequence[Split]) -> list[str]:
    tasks = [task for task in options.tasks if task != "retrieval"]
    if not tasks:
        return []
    if not options.label_columns:
        raise ValueError(
            f"--tasks {' '.join(tasks)}: give --label-column; {parts[0].name} has {parts[0].columns.listed()}"
        )
    for part in parts:
        part.require(options.label_columns, "--label-column")
    return list(options.label_columns)
