"""Retrieval, zero-shot classification, nearest neighbours and a linear probe, measured over embedded columns.

The names of the metrics are flat: TASK/[LABEL COLUMN/[MODALITY/]]MEASURE.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
from datasets import ClassLabel, Dataset

from ..arrays import AnyArray
from ..modalities import MODALITIES, PICTURES, Encoder
from ..zero_shot import ZeroShotClassifier
from .embedded_columns import EmbeddedColumns
from .probes import knn_metrics, linear_probe_metrics
from .retrieval import MEDIAN_RANK, metric_names, retrieval_metrics
from .zero_shot import zero_shot_metrics

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


def zero_shot(
    model: Encoder, embedded: EmbeddedColumns, labels: Labels, templates: Sequence[str] | None = None
) -> dict[str, float]:
    """`zero-shot/COLUMN/MODALITY/top{1,5}_accuracy` of pictures, and `zero-shot/COLUMN/chance`, that of guessing."""
    options = {"templates": templates} if templates else {}
    names = cast(list[str], labels.classes)  # the classifier refuses numbers
    classifier = ZeroShotClassifier(cast("MultimodalEncoderModel", model), names, **options)
    answers = [labels.classes.index(value) for value in labels.values[embedded.kept].tolist()]
    ks = [k for k in (1, 5) if k < len(labels.classes)]  # with k classes, the first k are always right
    metrics = {"chance": 1 / len(labels.classes)}
    for modality in PICTURES:
        if modality in embedded.embeds:
            found = zero_shot_metrics(embedded.embeds[modality], classifier.label_embeds, answers, ks=ks)
            metrics |= {f"{modality}/{name.removeprefix('zero_shot_')}": value for name, value in found.items()}
    return {f"zero-shot/{labels.column}/{name}": value for name, value in metrics.items()}


def probe(
    task: str, train: EmbeddedColumns, train_labels: Labels, test: EmbeddedColumns, test_labels: Labels, k: int = 20
) -> dict[str, float]:
    """`TASK/COLUMN/MODALITY/accuracy` of the task "knn" or "linear-probe", for the modalities of train."""
    metrics: dict[str, float] = {}
    for modality, embeds in train.embeds.items():
        test_embeds = test.embeds[modality]
        # A row of several captions has several embeddings.
        train_values = train_labels.values[train.owners[modality]]
        test_values = test_labels.values[test.owners[modality]]
        if task == "knn":
            found = knn_metrics(embeds, train_values, test_embeds, test_values, k=k)
        else:
            found = linear_probe_metrics(embeds, train_values, test_embeds, test_values)
        prefix = f"{task.replace('-', '_')}_"
        metrics |= {f"{modality}/{name.removeprefix(prefix)}": value for name, value in found.items()}
    return {f"{task}/{test_labels.column}/{name}": value for name, value in metrics.items()}


def metric_lines(metrics: Mapping[str, float]) -> list[str]:
    """Names and values, aligned, one per line."""
    width = max(map(len, metrics), default=0)
    return [f"{name:<{width}}  {_shown(value):>10}" for name, value in metrics.items()]


def _shown(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 or not value else f"{value:.1e}"
