"""How good a model is on a data set: retrieval, zero-shot classification, nearest neighbours and a linear probe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accelerate import PartialState
from datasets import Dataset

from .._version import __version__
from ..data.names import split_names
from ..fingerprint import identity
from ..modalities import Encoder, default_modality, encoder
from ..versions import library_versions
from .confusion import Groups, groups_of
from .embedded_columns import EmbeddedColumns, embed_columns
from .measured_data import Report, Split, choose_columns, choose_labels, choose_train_columns, open_splits
from .options import PROBES, EvaluationOptions
from .probes import need_scikit_learn
from .tasks import Answers, Label, Labels, Outcome, probe_outcome, read_labels, retrieval, zero_shot_outcome

_LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "numpy")

__all__ = ["EvaluationOptions", "Measured", "Plan", "Report", "evaluate", "plan_evaluation"]


def evaluate(model: Encoder, options: EvaluationOptions, processes: PartialState) -> Report | None:
    """Measure a model on one split. Every process calls this; the main one gets the result.

    Returns:
        The metrics; and the model, data, options and versions that they are of.

    Raises:
        ValueError: if model or data lack what a task needs, scikit-learn is missing that the linear probe needs, or a
            row cannot be read; or if several splits are asked for, see `plan_evaluation`.
    """
    if len(split_names(options.split, "--split")) > 1:
        raise ValueError(f"split {options.split!r}: one split at a time; plan_evaluation takes several")
    measured = plan_evaluation(model, options, processes).measure()
    return measured[0].report if measured else None


def plan_evaluation(model: Encoder, options: EvaluationOptions, processes: PartialState) -> "Plan":
    """Open the data, and choose what is embedded. Every process calls this.

    Raises:
        ValueError: if model or data lack what a task needs, or scikit-learn is missing that the linear probe needs.
    """
    if "linear-probe" in options.tasks:
        need_scikit_learn()
    encoder(model, default_modality(model))  # refuses a model that is no encoder of this project
    with processes.local_main_process_first():  # the others find what it has downloaded and prepared
        tests, train = open_splits(options)
    columns = [choose_columns(options, model, test) for test in tests]
    train_columns = choose_train_columns(options, columns[0], train) if train else {}
    label_columns = choose_labels(options, [*tests, *([train] if train else [])])
    return Plan(model, options, processes, tests, columns, train, train_columns, label_columns)


@dataclass(frozen=True)
class Measured:
    """What was found on one split.

    Args:
        report: see `evaluate`.
        rows: the rows of the split, those that were skipped among them.
        embedded: their embeddings.
        answers: of the classifications.
        group_column: the column of the classes' groups, if one was asked for.
        groups: label column → group of each of its classes; empty without `group_column`.
    """

    report: Report
    rows: Dataset
    embedded: EmbeddedColumns
    answers: list[Answers]
    group_column: str | None
    groups: Mapping[str, Groups]


@dataclass(frozen=True)
class _Part:
    """What the tasks need of a split: its embeddings, and its labels by each label column."""

    embedded: EmbeddedColumns
    labels: list[Labels]


@dataclass(frozen=True)
class Plan:
    """What will be measured: `measure` does it.

    Args:
        model: an encoder.
        options: what was asked for.
        processes: this process and their number.
        tests: the splits to measure on.
        columns: of each of them, modality → the column that is embedded.
        train: what the probes learn from, if there are any.
        train_columns: modality → the column that they learn from.
        label_columns: of the classes.
    """

    model: Encoder
    options: EvaluationOptions
    processes: PartialState
    tests: list[Split]
    columns: list[dict[str, str]]
    train: Split | None
    train_columns: dict[str, str]
    label_columns: list[str]

    def measure(self) -> list[Measured] | None:
        """Embed and measure, split by split. Every process calls this; the main one gets the results.

        Raises:
            ValueError: if a row cannot be read.
        """
        groups = [self._groups(test) for test in self.tests]  # first: they may be wrong, and cost little
        parts = [self._embed(test, columns) for test, columns in zip(self.tests, self.columns, strict=True)]
        train_part = self._embed(self.train, self.train_columns) if self.train else None
        if not self.processes.is_main_process:
            return None
        several = zip(self.tests, self.columns, parts, groups, strict=True)
        return [self._measured(test, columns, part, train_part, found) for test, columns, part, found in several]

    def _embed(self, split: Split, columns: Mapping[str, str]) -> _Part:
        return _embed(self.model, split, columns, self.label_columns, self.options, self.processes)

    def _measured(
        self, test: Split, columns: dict[str, str], part: _Part, train_part: _Part | None, groups: Mapping[str, Groups]
    ) -> Measured:
        model, options = self.model, self.options
        maker = identity(model)
        chosen = {name: value for name in ("pooling", "interpolate") if (value := getattr(model, name, None))}
        report: Report = {"model": maker.pop("name_or_path"), **maker, **chosen, **test.report(part.embedded)}
        if self.train and train_part:
            report["train"] = self.train.report(train_part.embedded)
        found = _outcome(model, options, part, train_part)
        report |= {
            "columns": columns,
            "options": {name: getattr(options, name) for name in ("templates", "k", "dtype", "limit", "depth_units")},
            "metrics": found.metrics,
            "versions": {"hf_encoders": __version__} | library_versions(_LIBRARIES),
        }
        return Measured(report, test.rows, part.embedded, found.answers, options.group_column, groups)

    def _groups(self, test: Split) -> dict[str, Groups]:
        """Label column → group of each class, by the rows of test and train."""
        by = self.options.group_column
        if by is None:
            return {}
        groups: dict[str, Groups] = {}
        for column in self.label_columns:
            labels: list[Label] = []
            found: list[Label] = []
            for split in filter(None, [test, self.train]):
                with split.named():
                    labels += read_labels(split.rows, column).values.tolist()
                    found += read_labels(split.rows, by).values.tolist()
            groups[column] = groups_of(labels, found)
        return groups


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


def _outcome(model: Encoder, options: EvaluationOptions, test: _Part, train: _Part | None) -> Outcome:
    found = Outcome(retrieval(test.embedded) if "retrieval" in options.tasks else {}, [])
    for index, labels in enumerate(test.labels):
        if "zero-shot" in options.tasks:
            found += zero_shot_outcome(model, test.embedded, labels, options.templates)
        for task in PROBES:
            if task in options.tasks and train:
                found += probe_outcome(task, train.embedded, train.labels[index], test.embedded, labels, options.k)
    return found
