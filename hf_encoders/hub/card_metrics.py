"""The results of an evaluation as a card shows them: entries of the model-index, and tables."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from huggingface_hub import EvalResult

from ..models.input_errors import InputError, reason
from ..plurals import counted
from .reports import EvaluationReport, MeasuredData

# First part of a metric's name → the Hub's name of the task, and its name in a table.
_TASKS = {
    "retrieval": ("feature-extraction", "Retrieval"),
    "zero-shot": ("zero-shot-image-classification", "Zero-shot classification"),
    "knn": ("image-classification", "Nearest neighbours"),
    "linear-probe": ("image-classification", "Linear probe"),
}
_NO_RESULTS = ("/chance", "/penalty")  # the chance level and the chosen penalty describe a measurement
# Options that one task alone has.
_ONE_TASK = {"templates": "zero-shot", "k": "knn"}
_USUAL_SPLITS = ("train", "validation", "test")
_NEEDED = {"fingerprint", "dataset", "split", "rows", "metrics"}


@dataclass(frozen=True)
class Table:
    """Values of one task: a row per metric, a column per data set and split.

    Args:
        title: the name of the task.
        columns: the names of the columns, see `Evaluation.column`.
        rows: the name of a metric, and its values; an empty one where it was not measured.
    """

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def read_evaluations(file: Path) -> list["Evaluation"]:
    """The reports in a file that `hf-encoders evaluate --output` wrote: one, or a list of several splits.

    Raises:
        InputError: if it is not such a file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path=file, reason=f"no metrics that can be read ({reason(error)})") from None
    reports = content if isinstance(content, list) and content else [content]
    return [Evaluation(report, file) for report in reports]


class Evaluation:
    """The report of one evaluation.

    Args:
        content: a report of `hf-encoders evaluate`.
        path: the file that holds it, if one does.

    Raises:
        InputError: if it is not such a report.
    """

    def __init__(self, content: object, path: Path | None = None):
        self.path, self.source = path, "metrics" if path is None else str(path)
        known = content.keys() if isinstance(content, Mapping) else set()
        if not known >= _NEEDED or not {"dataset_sha256", "dataset_revision"} & known:
            raise self._error("no report of an evaluation", hint="write it with hf-encoders evaluate --output")
        self.report = cast(EvaluationReport, content)
        for name in self.report["metrics"]:
            if name.partition("/")[0] not in _TASKS:
                raise self._error(f"metric {name!r} is of none of the tasks {', '.join(_TASKS)}")

    def _error(self, reason: str, hint: str = "") -> InputError:
        return InputError(path=self.path, name=self.source, reason=reason, hint=hint)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the measured model."""
        return str(self.report["fingerprint"])

    def results(self) -> list[EvalResult]:
        """The entries of the model-index; each names the model's fingerprint and how it was measured."""
        report = self.report
        options = {name: value for name, value in report.get("options", {}).items() if value is not None}
        args = {"fingerprint": self.fingerprint, "rows": report["rows"]}
        is_local = "dataset_sha256" in report
        name = data_name(report)
        return [
            EvalResult(
                task_type=_TASKS[metric.partition("/")[0]][0],
                # A path must not look like the id of a data set on the Hub.
                dataset_type=re.sub(r"[^\w.-]", "-", str(Path(name).with_suffix(""))) if is_local else name,
                dataset_name=name,
                dataset_split=report["split"],
                dataset_revision=None if is_local else report["dataset_revision"],
                dataset_args={"sha256": report["dataset_sha256"]} if is_local else None,
                metric_type=_parts(metric)[2].replace("@", "_at_"),
                metric_name=metric,
                metric_value=value,
                metric_args=args | _options_of(metric, options),
            )
            for metric, value in report["metrics"].items()
            if not metric.endswith(_NO_RESULTS)
        ]

    @property
    def data(self) -> str:
        """The data that the model was measured on, in words, with its version."""
        described = _describe(self.report)
        return f"{described}; learned from {_describe(self.report['train'])}" if "train" in self.report else described

    @property
    def column(self) -> str:
        """The data set and the split, as the name of a column."""
        return f"{data_name(self.report)}, {self.report['split']}"


def compare(evaluations: Sequence[Evaluation]) -> list[Table]:
    """One table per task, in which the data sets and splits that it was measured on stand side by side.

    Evaluations of one split that measured other things share a column.
    """
    columns: list[tuple[str, dict[str, float]]] = []
    for evaluation in evaluations:
        metrics = dict(evaluation.report["metrics"])
        for name, present in columns:
            if name == evaluation.column and not present.keys() & metrics.keys():
                present |= metrics
                break
        else:
            columns.append((evaluation.column, metrics))
    names = dict.fromkeys(name for _, metrics in columns for name in metrics)
    return [
        _table(task, [name for name in names if name.partition("/")[0] == task], columns)
        for task in dict.fromkeys(name.partition("/")[0] for name in names)
    ]


class Measured(Protocol):
    """What a card shows of an evaluation."""

    @property
    def path(self) -> Path | None:
        """The file that holds it, if one does."""

    @property
    def source(self) -> str:
        """What a message calls it."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the measured model."""


def check_fingerprint(measured: Measured, own: str) -> None:
    """Refuse what was measured on other weights than the model's.

    Raises:
        InputError: with both fingerprints.
    """
    if measured.fingerprint != own:
        raise InputError(
            path=measured.path,
            name=measured.source,
            reason=f"measured on other weights ({measured.fingerprint}) than this model's ({own})",
            hint="evaluate this model, or remove them",
        )


def in_order(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations data set by data set, of each the usual splits first: "unseen" stands right of "test"."""
    names = list(dict.fromkeys(evaluation.report["dataset"] for evaluation in evaluations))
    return sorted(evaluations, key=lambda one: (names.index(one.report["dataset"]), split_place(one.report["split"])))


def split_place(split: str) -> tuple[int, str]:
    """By what splits are sorted: the usual ones come first."""
    return (_USUAL_SPLITS.index(split) if split in _USUAL_SPLITS else len(_USUAL_SPLITS)), split


def is_measured(result: EvalResult) -> bool:
    """Whether this package made an entry of a model-index, not a person."""
    return "fingerprint" in (result.metric_args or {})


def check_versions(results: Sequence[EvalResult]) -> None:
    """Refuse two versions of one data set: a model-index shows all numbers under the first version.

    Raises:
        ValueError: if there are two.
    """
    seen: dict[tuple[object, ...], object] = {}
    for result in results:
        if seen.setdefault(result.unique_identifier, result.dataset_args) != result.dataset_args:
            name = f"{result.dataset_name} ({result.dataset_split})"
            raise ValueError(f"metrics of two versions of {name}; leave one of them out")


def _table(task: str, names: Sequence[str], columns: Sequence[tuple[str, Mapping[str, float]]]) -> Table:
    measured = [(title, metrics) for title, metrics in columns if any(name in metrics for name in names)]
    rows = []
    for name in names:
        _, subject, measure = _parts(name)
        cells = [f"{metrics[name]:.4g}" if name in metrics else "" for _, metrics in measured]
        rows.append((f"{subject}: {measure.replace('_', ' ')}", cells))
    return Table(_TASKS[task][1], [title for title, _ in measured], rows)


def _parts(metric: str) -> tuple[str, str, str]:
    """Split `retrieval/A_to_B_MEASURE` or `TASK/COLUMN/[MODALITY/]MEASURE` into task, comparison and measure."""
    task, _, rest = metric.partition("/")
    if task == "retrieval":
        query, _, rest = rest.partition("_to_")
        found, _, measure = rest.partition("_")
        return task, f"{query} → {found}", measure
    subject, _, measure = rest.rpartition("/")
    subject = subject.replace("/", ", ")
    return (task, f"{subject}, guessing", "top1_accuracy") if measure == "chance" else (task, subject, measure)


def _options_of(metric: str, options: Mapping[str, object]) -> dict[str, object]:
    """The options that a metric depends on: prompts and neighbours are those of one task."""
    task = metric.partition("/")[0]
    return {name: value for name, value in options.items() if _ONE_TASK.get(name, task) == task}


def _describe(part: MeasuredData) -> str:
    version = f"SHA-256 `{part['dataset_sha256']}`" if "dataset_sha256" in part else f"`{part['dataset_revision']}`"
    return f"`{data_name(part)}` ({part['split']}, {counted(part['rows'], 'row')}, {version})"


def data_stem(dataset: str, split: str) -> str:
    """A name of a data set's split for files: "rooms_wide-unseen".

    Args:
        dataset: a path, of which the last part counts, or a Hub id.
        split: of the data set.
    """
    path = Path(dataset)
    parts = [path.name, split]
    if path.is_file():  # such as rooms/test.parquet
        parts = [path.absolute().parent.name, path.stem, *([split] if split != path.stem else [])]
    return re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip("-.")


def data_name(part: MeasuredData) -> str:
    """The name as a card shows it: a Hub id as it is, a path by its last two parts."""
    return "/".join(Path(part["dataset"]).parts[-2:]) if "dataset_sha256" in part else part["dataset"]
