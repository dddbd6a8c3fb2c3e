"""Calibrates when an input is none of the labels, on rows that have one of them and rows that have none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from accelerate import PartialState
from datasets import Dataset
from torch import Tensor

from ..data.cells import columns_of
from ..data.splits import data_revision, load_split
from ..fingerprint import fingerprint
from ..modalities import PICTURES, Encoder, Modality, encoder, modalities
from ..models.depth_units import DepthUnits
from ..zero_shot import KNOWN_SCORES, Calibration, KnownScore, ZeroShotClassifier
from .embedded_columns import EmbeddedColumns, SkippedCell, embed_columns
from .known import FEW_LABELS, Compared, Measured, measure_scores
from .probes import need_scikit_learn
from .tasks import read_some_labels

if TYPE_CHECKING:
    from ..models.modeling_multimodal_encoder import MultimodalEncoderModel


@dataclass(frozen=True)
class CalibrationOptions:
    """What a calibration is measured on.

    Args:
        dataset: rows that have labels; see `hf_encoders.data.location.locate`.
        label_column: the column of their labels.
        split: its split.
        unknown_dataset: rows of other classes; `dataset` by default. Those of `dataset` whose label is not among the
            labels are unknown too.
        unknown_split: its split; without it and `unknown_dataset`, `dataset` alone is read.
        labels: the labels that are asked for, all at a time. Without them thresholds are also measured for 5 and 20 of
            the labels at a time.
        labels_split: the split of `dataset` whose labels they are, where `labels` is not given; `split` by default.
        templates: prompts, with {} for the label.
        background: words that compete with the labels, beside the labels that are not asked for.
        kept: the share of known rows that are to get an answer, above 0 and up to 1.
        score: the score to take; by default the one that tells best.
        modalities: "image", "depth"; by default those that model and data both have.
        image_column: "image" by default.
        depth_column: "depth" by default.
        on_error: "raise" or "skip" for rows that cannot be read.
        batch_size: how many inputs are embedded at a time.
        depth_units: what the raw values of depth maps mean: see `DepthUnits`.
    """

    dataset: str
    label_column: str
    split: str = "validation"
    unknown_dataset: str | None = None
    unknown_split: str | None = None
    labels: Sequence[str] | None = None
    labels_split: str | None = None
    templates: Sequence[str] = ("a photo of a {}.",)
    background: Sequence[str] = ()
    kept: float = 0.9
    score: KnownScore | None = None
    modalities: Sequence[Modality] | None = None
    image_column: str | None = None
    depth_column: str | None = None
    on_error: Literal["raise", "skip"] = "raise"
    batch_size: int = 32
    depth_units: DepthUnits | None = None


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration, and what was measured on the way.

    Args:
        calibration: what a model carries.
        measured: modality → all scores that were tried.
        labels: how many labels there are.
        known: how many rows have one of them.
        unknown: how many have none.
        left_out: rows of the unknown data that have one of the labels after all.
        skipped: "known" or "unknown" → the cells of these data that cannot be read.
    """

    calibration: Calibration
    measured: Mapping[Modality, list[Measured]]
    labels: int
    known: int
    unknown: int
    left_out: int
    skipped: Mapping[str, list[SkippedCell]]


def calibrate(model: Encoder, options: CalibrationOptions, processes: PartialState) -> CalibrationResult | None:
    """Measure the scores, and choose one with its threshold for each modality. See `measure_scores`.

    Every process calls this; the main one gets the result.

    Raises:
        ValueError: if model or data lack what is needed, a row cannot be read, or scikit-learn is not installed.
    """
    need_scikit_learn("a calibration")
    if not 0 < options.kept <= 1:
        raise ValueError(f"--kept is a share above 0 and up to 1, got {options.kept}")
    if options.labels is not None and options.labels_split is not None:
        raise ValueError("--labels-split: the labels are given by --labels")
    encoder(model, "text")
    with processes.local_main_process_first():  # the others find what it has downloaded and prepared
        known = _open(options.dataset, options.split, "--split", options)
        unknown = _open_unknown(options)
        if unknown and _are_same(known, unknown):
            raise ValueError(f"{known.name}: the same rows as known and as unknown ones; give another --unknown-split")
        classifier = _classifier(model, options, known)
    columns = _choose_columns(model, options, [part for part in (known, unknown) if part])
    labels: dict[object, int] = {label: number for number, label in enumerate(classifier.labels)}
    parts = [_embed(model, known, columns, labels, options, processes)]
    left_out = 0
    if unknown:
        part = _embed(model, unknown, columns, labels, options, processes)
        left_out = int((part.right >= 0).sum())
        parts.append(part.without_labels())
    if not processes.is_main_process:
        return None
    right = torch.cat([part.right for part in parts])
    if not (right < 0).any():
        raise ValueError(
            f"{known.name}: each row has one of the labels; give rows that have none by --unknown-split or"
            " --unknown-dataset, or fewer --labels"
        )
    background = _background(classifier, options.background)
    scores = [options.score] if options.score else list(KNOWN_SCORES)
    measured: dict[Modality, list[Measured]] = {}
    for modality in columns:
        embeds = torch.cat([part.embeds[modality] for part in parts])
        # Labels that are given are those that will be asked for.
        numbers = () if options.labels is not None else FEW_LABELS
        compared = _compare(classifier, embeds, background, right)
        measured[modality] = measure_scores(compared, options.kept, scores, numbers)
    calibration = Calibration(
        fingerprint=fingerprint(model),
        templates=tuple(classifier.templates),
        background=(*classifier.labels, *background) if _uses_background(measured) else (),
        kept=options.kept,
        modalities={name: one.calibration for name, found in measured.items() for one in found if one.is_chosen},
        data=_described(options, known, unknown, right, len(labels)),
    )
    return CalibrationResult(
        calibration=calibration,
        measured=measured,
        labels=len(labels),
        known=int((right >= 0).sum()),
        unknown=int((right < 0).sum()),
        left_out=left_out,
        skipped={name: part.skipped for name, part in zip(("known", "unknown"), parts, strict=False)},
    )


@dataclass(frozen=True)
class _Split:
    """Rows, where they are from, and their labels; None for rows of unknown classes without such a column."""

    name: str
    split: str
    rows: Dataset
    labels: list[str | int] | None


@dataclass(frozen=True)
class _Part:
    """Embeddings of the rows that can be read, the number of the right label of each, and the cells that cannot."""

    embeds: dict[Modality, Tensor]
    right: Tensor
    skipped: list[SkippedCell]

    def without_labels(self) -> "_Part":
        """The rows that have none of the labels."""
        rows = self.right < 0
        embeds = {name: values[rows.to(values.device)] for name, values in self.embeds.items()}
        return _Part(embeds, self.right[rows], self.skipped)


def _open(name: str, split: str, option: str, options: CalibrationOptions, *, needs_labels: bool = True) -> _Split:
    rows, column = load_split(name, split, option), options.label_column
    if needs_labels:
        columns_of(name, rows).require(column, "--label-column")
    return _Split(name, split, rows, _labels(name, rows, column) if column in rows.column_names else None)


def _labels(name: str, rows: Dataset, column: str) -> list[str | int]:
    try:
        return list(read_some_labels(rows, column).values.tolist())
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _open_unknown(options: CalibrationOptions) -> _Split | None:
    if options.unknown_dataset is None and options.unknown_split is None:
        return None
    name = options.unknown_dataset or options.dataset
    # Another data set may have other columns: its rows are unknown unless they say that they are not.
    return _open(name, options.unknown_split or "test", "--unknown-split", options, needs_labels=False)


def _are_same(known: _Split, unknown: _Split) -> bool:
    """Whether both are the same rows: a single file is every split. Rows that are not in files go by their name."""
    files = known.rows.cache_files, unknown.rows.cache_files
    return files[0] == files[1] if any(files) else known.name == unknown.name


def _classifier(model: Encoder, options: CalibrationOptions, known: _Split) -> ZeroShotClassifier:
    if options.labels is not None:
        labels = list(options.labels)
    else:
        of_labels = known
        if options.labels_split:
            of_labels = _open(options.dataset, options.labels_split, "--labels-split", options)
        labels = list(cast(list[str], sorted(set(of_labels.labels or []))))  # the classifier refuses numbers
    return ZeroShotClassifier(cast("MultimodalEncoderModel", model), labels, options.templates)


def _choose_columns(model: Encoder, options: CalibrationOptions, parts: Sequence[_Split]) -> dict[Modality, str]:
    """Modality → the column that is embedded: those asked for, or those that model and data both have."""
    given: Mapping[Modality, str | None] = {"image": options.image_column, "depth": options.depth_column}
    columns: dict[Modality, str] = {}
    for modality in options.modalities or [name for name in PICTURES if given[name] or name in modalities(model)]:
        column = given[modality] or modality
        is_asked_for = bool(options.modalities or given[modality])
        if is_asked_for:
            encoder(model, modality)  # refuses one that the model does not embed
        if is_asked_for or any(column in part.rows.column_names for part in parts):
            for part in parts:
                columns_of(part.name, part.rows).require(column, f"--{modality}-column")
            columns[modality] = column
    if not columns:
        listed = columns_of(parts[0].name, parts[0].rows).listed()
        raise ValueError(f"{parts[0].name}: no {' or '.join(PICTURES)}, it has {listed}; say --image-column")
    return columns


def _embed(
    model: Encoder,
    split: _Split,
    columns: Mapping[Modality, str],
    numbers: Mapping[object, int],
    options: CalibrationOptions,
    processes: PartialState,
) -> _Part:
    try:
        embedded: EmbeddedColumns = embed_columns(
            model,
            split.rows,
            {str(modality): column for modality, column in columns.items()},
            processes,
            depth_units=options.depth_units,
            on_error=options.on_error,
            batch_size=options.batch_size,
        )
    except ValueError as error:
        raise ValueError(f"{split.name}: {error}") from error
    values: Sequence[object] = split.labels if split.labels is not None else [None] * len(split.rows)
    right = torch.tensor([numbers.get(value, -1) for value in values])
    embeds = {modality: embedded.embeds[modality] for modality in columns}
    return _Part(embeds, right[torch.from_numpy(embedded.kept)], embedded.skipped)


def _background(classifier: ZeroShotClassifier, words: Sequence[str]) -> list[str]:
    """The words that are none of the labels, once each."""
    labels = {label.casefold() for label in classifier.labels}
    return list({word.casefold(): word for word in words if word.casefold() not in labels}.values())


def _compare(classifier: ZeroShotClassifier, embeds: Tensor, words: Sequence[str], right: Tensor) -> Compared:
    temperature = classifier.model.clamped_temperature.detach().float()
    cosines = (embeds @ classifier.label_embeds.T).cpu()
    background = (embeds @ classifier.embed_words(words).T).cpu()
    return Compared(cosines, background, right, float(temperature))


def _uses_background(measured: Mapping[Modality, list[Measured]]) -> bool:
    return any(one.is_chosen and one.calibration.score == "background" for found in measured.values() for one in found)


def _described(
    options: CalibrationOptions, known: _Split, unknown: _Split | None, right: Tensor, labels: int
) -> dict[str, object]:
    """The rows that were read, with the version of the data, for whoever measures again."""
    described: dict[str, object] = {
        "known": _origin(known),
        "label_column": options.label_column,
        "labels": labels,
        "known_rows": int((right >= 0).sum()),
        "unknown_rows": int((right < 0).sum()),
        "measured": "every second row of each label; the others chose score and thresholds",
    }
    return described | ({"unknown": _origin(unknown)} if unknown else {})


def _origin(split: _Split) -> dict[str, str]:
    return {"dataset": split.name, "split": split.split} | data_revision(split.name, split.split)
