"""Retrieval, zero-shot classification, nearest neighbours and a linear probe, measured over embedded columns.

The names of the metrics are flat: TASK/[LABEL COLUMN/[MODALITY/]]MEASURE.
"""

import itertools
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
from datasets import ClassLabel, Dataset
from torch import Tensor

from ..arrays import AnyArray
from ..modalities import MODALITIES, PICTURES, Encoder
from ..zero_shot import ZeroShotClassifier
from .embedded_columns import EmbeddedColumns
from .probes import knn_answers, linear_probe_answers
from .retrieval import MEDIAN_RANK, metric_names, retrieval_metrics
from .zero_shot import zero_shot_answers, zero_shot_metrics

if TYPE_CHECKING:
    from ..models.modeling_multimodal_encoder import MultimodalEncoderModel

Label: TypeAlias = str | int


@dataclass(frozen=True)
class Labels:
    """The labels of N rows.

    Args:
        column: the column that they are from.
        values: [N], the class of each row.
        classes: all classes, also those that no row has.
    """

    column: str
    values: AnyArray
    classes: list[Label]


def read_labels(rows: Dataset, column: str) -> Labels:
    """Read the labels of all rows: strings or numbers, and for a `ClassLabel` the names.

    Raises:
        ValueError: if a row has none, or there is one class only.
    """
    labels = read_some_labels(rows, column)
    if len(labels.classes) < 2:
        raise ValueError(f"column {column!r}: {len(labels.classes)} class, expected at least two")
    return labels


def read_some_labels(rows: Dataset, column: str) -> Labels:
    """As `read_labels`, and one class is enough.

    Raises:
        ValueError: if a row has none.
    """
    feature = rows.features[column]
    values: list[Label] = list(rows[column])
    for index, value in enumerate(values):
        if not isinstance(value, (str, int)) or (isinstance(feature, ClassLabel) and value == -1):
            raise ValueError(f"row {index}: {value!r} in column {column!r}, expected a label")
    if isinstance(feature, ClassLabel):
        values = [feature.names[value] for value in values]
        classes = list(feature.names)
    else:
        classes = sorted(set(values))
    return Labels(column, np.array(values), classes)


def retrieval(embedded: EmbeddedColumns) -> dict[str, float]:
    """`retrieval/A_to_B_recall@k` and `retrieval/A_to_B_median_rank` between all modalities A and B.

    A row's captions all belong to it, and equal captions are no false negatives.
    """
    metrics: dict[str, float] = {}
    for first, second in itertools.combinations(embedded.embeds, 2):
        metrics |= retrieval_metrics(
            embedded.embeds[first],
            embedded.embeds[second],
            first_ids=embedded.owners[first],
            second_ids=embedded.owners[second],
            captions=embedded.captions if first == "text" else None,
            names=(first, second),
        )
    return {f"retrieval/{name}": value for name, value in metrics.items()}


def retrieval_names(columns: Collection[str]) -> list[str]:
    """The names of what `retrieval` gives for embedded columns of these modalities, in its order."""
    pairs = itertools.combinations(sorted(columns, key=MODALITIES.index), 2)
    return [f"retrieval/{name}" for pair in pairs for name in metric_names(pair)]


def is_better(name: str, value: float, best: float | None) -> bool:
    """Whether the value of a metric is better than the best so far: a rank or a loss is better if it is lower."""
    return best is None or (value < best if name.endswith((MEDIAN_RANK, "loss")) else value > best)


def recall_line(metrics: Mapping[str, float]) -> str:
    """The recalls of `retrieval`, one direction per pair: "recall@1/5/10: text → image 0.52/0.80/0.91, ..."."""
    shown = []
    for first, second in itertools.combinations(MODALITIES, 2):
        prefix = f"retrieval/{first}_to_{second}_recall@"
        recalls = [value for name, value in metrics.items() if name.startswith(prefix)]
        if recalls:
            shown.append(f"{first} → {second} {'/'.join(f'{value:.2f}' for value in recalls)}")
    return f"recall@1/5/10: {', '.join(shown)}"


@dataclass(frozen=True)
class Answers:
    """The answers of a classification, one per embedding.

    Args:
        task: "zero-shot", "knn" or "linear-probe".
        column: the column of the right labels.
        modality: what was classified.
        right: the right labels.
        given: the answers.
        classes: all labels that there are, those of train among them.
    """

    task: str
    column: str
    modality: str
    right: list[Label]
    given: list[Label]
    classes: list[Label]


@dataclass(frozen=True)
class Outcome:
    """Metrics, and the answers of the classifications among what they measure."""

    metrics: dict[str, float]
    answers: list[Answers]

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.metrics | other.metrics, self.answers + other.answers)


def zero_shot(
    model: Encoder, embedded: EmbeddedColumns, labels: Labels, templates: Sequence[str] | None = None
) -> dict[str, float]:
    """`zero-shot/COLUMN/MODALITY/top{1,5}_accuracy` of pictures, and `zero-shot/COLUMN/chance`, that of guessing."""
    return zero_shot_outcome(model, embedded, labels, templates).metrics


def zero_shot_outcome(
    model: Encoder, embedded: EmbeddedColumns, labels: Labels, templates: Sequence[str] | None = None
) -> Outcome:
    """The metrics of `zero_shot`, and the answers."""
    options = {"templates": templates} if templates else {}
    names = cast(list[str], labels.classes)  # the classifier refuses numbers
    classifier = ZeroShotClassifier(cast("MultimodalEncoderModel", model), names, **options)
    right: list[Label] = labels.values[embedded.kept].tolist()
    numbers = [labels.classes.index(value) for value in right]
    ks = [k for k in (1, 5) if k < len(labels.classes)]  # with k classes, the first k are always right
    metrics, answers = {"chance": 1 / len(labels.classes)}, []
    for modality in PICTURES:
        if modality in embedded.embeds:
            sides = embedded.embeds[modality], classifier.label_embeds
            found = zero_shot_metrics(*sides, numbers, ks=ks)
            metrics |= {f"{modality}/{name.removeprefix('zero_shot_')}": value for name, value in found.items()}
            given = [labels.classes[number] for number in zero_shot_answers(*sides, numbers)]
            answers.append(Answers("zero-shot", labels.column, modality, right, given, labels.classes))
    return Outcome({f"zero-shot/{labels.column}/{name}": value for name, value in metrics.items()}, answers)


def probe(
    task: str, train: EmbeddedColumns, train_labels: Labels, test: EmbeddedColumns, test_labels: Labels, k: int = 20
) -> dict[str, float]:
    """`TASK/COLUMN/MODALITY/accuracy` of the task "knn" or "linear-probe", for the modalities of train."""
    return probe_outcome(task, train, train_labels, test, test_labels, k).metrics


def probe_outcome(
    task: str, train: EmbeddedColumns, train_labels: Labels, test: EmbeddedColumns, test_labels: Labels, k: int = 20
) -> Outcome:
    """The metrics of `probe`, and the answers."""
    metrics: dict[str, float] = {}
    answers: list[Answers] = []
    classes = list(dict.fromkeys([*test_labels.classes, *train_labels.classes]))
    for modality, embeds in train.embeds.items():
        # A row of several captions has several embeddings.
        train_values = train_labels.values[train.owners[modality]]
        test_values = test_labels.values[test.owners[modality]]
        parts = embeds, train_values, test.embeds[modality], test_values
        given, chosen = (knn_answers(*parts, k=k), {}) if task == "knn" else _linear_probe(*parts)
        right: list[Label] = test_values.tolist()
        answers.append(Answers(task, test_labels.column, modality, right, cast(list[Label], given), classes))
        found = {"accuracy": sum(map(eq, right, given)) / len(right)} | chosen
        metrics |= {f"{modality}/{name}": value for name, value in found.items()}
    return Outcome({f"{task}/{test_labels.column}/{name}": value for name, value in metrics.items()}, answers)


def _linear_probe(*parts: AnyArray | Tensor) -> tuple[list[Hashable], dict[str, float]]:
    given, penalty = linear_probe_answers(*parts)
    return given, {"penalty": penalty}


def metric_lines(metrics: Mapping[str, float]) -> list[str]:
    """Names and values, aligned, one per line."""
    width = max(map(len, metrics), default=0)
    return [f"{name:<{width}}  {_shown(value):>10}" for name, value in metrics.items()]


def compared_lines(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Names and values of several splits, aligned: a line per metric, a column per split.

    Args:
        metrics: split → name of a metric → its value.
    """
    names = list(dict.fromkeys(name for found in metrics.values() for name in found))
    width = max(map(len, names), default=0)
    widths = {split: max(10, len(split)) for split in metrics}
    lines = [f"{'':<{width}}  {'  '.join(f'{split:>{widths[split]}}' for split in metrics)}"]
    for name in names:
        values = [
            f"{_shown(found[name]) if name in found else '':>{widths[split]}}" for split, found in metrics.items()
        ]
        lines.append(f"{name:<{width}}  {'  '.join(values)}")
    return lines


def _shown(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 or not value else f"{value:.1e}"
