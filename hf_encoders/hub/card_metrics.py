"""The results of an evaluation as a card shows them: entries of the model-index, and tables."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

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
_NEEDED = ("fingerprint", "dataset", "split", "rows", "metrics")


@dataclass(frozen=True)
class Table:
    """Values of one task: a row per comparison, a column per measure."""

    title: str
    measures: list[str]
    rows: list[tuple[str, list[str]]]


class Evaluation:
    """The report of one evaluation.

    Args:
        report: a report that `hf-encoders evaluate --output` wrote, or its path.

    Raises:
        InputError: if it is not such a report.
    """

    def __init__(self, report: Path | Mapping[str, object]):
        self.path = report if isinstance(report, Path) else None
        self.source = str(report) if isinstance(report, Path) else "metrics"
        try:
            content = json.loads(report.read_text(encoding="utf-8")) if isinstance(report, Path) else report
        except (OSError, ValueError) as error:
            raise self._error(f"no metrics that can be read ({reason(error)})") from None
        missing = [name for name in _NEEDED if not isinstance(content, Mapping) or name not in content]
        if missing or not {"dataset_sha256", "dataset_revision"} & content.keys():
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
        name = _data_name(report)
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

    def tables(self) -> list[Table]:
        """One table per task."""
        tasks: dict[str, dict[str, dict[str, float]]] = {}
        for name, value in self.report["metrics"].items():
            task, subject, measure = _parts(name)
            tasks.setdefault(task, {}).setdefault(subject, {})[measure] = value
        return [_table(_TASKS[task][1], rows) for task, rows in tasks.items()]


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


def _table(title: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    measures = list(dict.fromkeys(measure for row in rows.values() for measure in row))
    cells = [
        (name, [f"{row[measure]:.4g}" if measure in row else "" for measure in measures]) for name, row in rows.items()
    ]
    return Table(title, [measure.replace("_", " ") for measure in measures], cells)


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
    return f"`{_data_name(part)}` ({part['split']}, {counted(part['rows'], 'row')}, {version})"


def _data_name(part: MeasuredData) -> str:
    """The name as a card shows it: a Hub id as it is, a path by its last two parts."""
    return "/".join(Path(part["dataset"]).parts[-2:]) if "dataset_sha256" in part else part["dataset"]
