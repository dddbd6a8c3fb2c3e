"""What is measured: retrieval, zero-shot classification, nearest neighbours and a linear probe, over embedded rows.

The names of the metrics are flat: TASK/[LABEL COLUMN/[MODALITY/]]MEASURE.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel

from ..modalities import MODALITIES, PICTURES
from ..zero_shot import ZeroShotClassifier
from .embedded_columns import EmbeddedRows
from .probes import knn_metrics, linear_probe_metrics
from .retrieval import retrieval_metrics
from .zero_shot import zero_shot_metrics


@dataclass(frozen=True)
class Labels:
    """What each row is, according to a column, and the classes that there are."""

    column: str
    values: np.ndarray
    classes: list[Any]


def read_labels(rows: Any, column: str) -> Labels:
    """The labels of all rows: strings or numbers; of a `ClassLabel`, their names.

    Raises:
        ValueError: if a row has none, or there is one class only.
    """
    feature = rows.features[column]
    values: list[Any] = list(rows[column])
    for index, value in enumerate(values):
        if not isinstance(value, (str, int)) or (isinstance(feature, ClassLabel) and value == -1):
            raise ValueError(f"row {index}: {value!r} in column {column!r}, expected a label")
    if isinstance(feature, ClassLabel):
        values, classes = [feature.names[value] for value in values], list(feature.names)
    else:
        classes = sorted(set(values))
    if len(classes) < 2:
        raise ValueError(f"column {column!r}: {len(classes)} class, expected two at least")
    return Labels(column, np.array(values), classes)


def retrieval(embedded: EmbeddedRows) -> dict[str, float]:
    """`retrieval/A_to_B_recall@k` and `retrieval/A_to_B_median_rank` between all modalities A and B.

    A row's captions all belong to it, and equal captions are no false negatives.
    """
    metrics: dict[str, float] = {}
    for one, other in itertools.combinations(embedded.embeds, 2):
        metrics |= retrieval_metrics(
            embedded.embeds[one],
            embedded.embeds[other],
            first_ids=embedded.owners[one],
            second_ids=embedded.owners[other],
            captions=embedded.captions if one == "text" else None,
            names=(one, other),
        )
    return {f"retrieval/{name}": value for name, value in metrics.items()}


def recall_line(metrics: Mapping[str, float]) -> str:
    """The recalls of `retrieval`, one direction a pair: "recall@1/5/10: text → image 0.52/0.80/0.91, ..."."""
    shown = []
    for one, other in itertools.combinations(MODALITIES, 2):
        recalls = [value for name, value in metrics.items() if name.startswith(f"retrieval/{one}_to_{other}_recall@")]
        if recalls:
            shown.append(f"{one} → {other} {'/'.join(f'{value:.2f}' for value in recalls)}")
    return f"recall@1/5/10: {', '.join(shown)}"


def zero_shot(
    model: Any, embedded: EmbeddedRows, labels: Labels, templates: Sequence[str] | None = None
) -> dict[str, float]:
    """`zero-shot/COLUMN/MODALITY/top{1,5}_accuracy` of pictures, and `zero-shot/COLUMN/chance`, that of guessing."""
    options = {"templates": templates} if templates else {}
    classifier = ZeroShotClassifier(model, labels.classes, **options)
    answers = [labels.classes.index(value) for value in labels.values[embedded.kept].tolist()]
    ks = [k for k in (1, 5) if k < len(labels.classes)]  # with k classes, the first k are always right
    metrics = {"chance": 1 / len(labels.classes)}
    for modality in PICTURES:
        if modality in embedded.embeds:
            found = zero_shot_metrics(embedded.embeds[modality], classifier.label_embeds, answers, ks=ks)
            metrics |= {f"{modality}/{name.removeprefix('zero_shot_')}": value for name, value in found.items()}
    return {f"zero-shot/{labels.column}/{name}": value for name, value in metrics.items()}


def probe(
    task: str, train: EmbeddedRows, train_labels: Labels, test: EmbeddedRows, test_labels: Labels, k: int = 20
) -> dict[str, float]:
    """`TASK/COLUMN/MODALITY/accuracy` of the task "knn" or "linear-probe", for the modalities of train."""
    metrics: dict[str, float] = {}
    for modality, embeds in train.embeds.items():
        data = embeds, train_labels.values[train.kept], test.embeds[modality], test_labels.values[test.kept]
        found = knn_metrics(*data, k=k) if task == "knn" else linear_probe_metrics(*data)
        prefix = f"{task.replace('-', '_')}_"
        metrics |= {f"{modality}/{name.removeprefix(prefix)}": value for name, value in found.items()}
    return {f"{task}/{test_labels.column}/{name}": value for name, value in metrics.items()}


def metric_lines(metrics: Mapping[str, float]) -> list[str]:
    """Names and values, aligned, one a line."""
    width = max(map(len, metrics), default=0)
    return [f"{name:<{width}}  {_shown(value):>10}" for name, value in metrics.items()]


def _shown(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 or not value else f"{value:.1e}"
