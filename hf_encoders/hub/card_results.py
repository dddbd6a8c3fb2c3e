"""Puts evaluations into a model's folder and card, beside those that are there."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import cast

from ..fingerprint import fingerprint
from ..models.input_errors import InputError
from ..models.tower import Encoder
from ..outputs import new_file
from .card_figures import read_figures
from .card_metrics import Evaluation, check_fingerprint, data_name, data_stem, read_evaluations
from .kind import repo_kind
from .model_card import CARD_NAME, read_card, write_card
from .reports import EvaluationReport, MeasuredData


def check_card(repo: Path, model: Encoder, replaced: Collection[Path] = ()) -> None:
    """Refuse a card that could not be written, before hours are spent on its numbers.

    Args:
        repo: the folder.
        model: the model that is in it.
        replaced: pictures of the repo that will be drawn again.

    Raises:
        InputError: if this is no folder with a model of this project, or holds metrics of other weights.
    """
    if not repo.is_dir():
        raise InputError(path=repo, reason="--card writes into the model's folder, and this is none on this machine")
    repo_kind(repo)
    read_card(repo / CARD_NAME)
    own = fingerprint(model)
    for file in _metric_files(repo):
        for evaluation in read_evaluations(file):
            check_fingerprint(evaluation, own)
    drawn_again = {path.resolve() for path in replaced}
    for figure in read_figures(repo):
        if figure.path.resolve() not in drawn_again:
            check_fingerprint(figure, own)


def add_results(repo: Path, reports: Sequence[Mapping[str, object]], *, trust_remote_code: bool = False) -> Path:
    """Put evaluations into a repo's metrics*.json, and write its card.

    A metric that was measured before on the same split of the same data is replaced, and so is everything that was
    measured on another version of that split. All else stays. A split that is new gets a file of its own,
    `metrics_DATA-SPLIT.json`.

    Args:
        repo: folder of the model that was measured.
        reports: of `hf-encoders evaluate`.
        trust_remote_code: see `write_card`.

    Returns:
        The path of the card.

    Raises:
        InputError: if a report is none, or the card cannot be written; see `write_card`.
        OSError: if a file cannot be written.
    """
    files = {file: [evaluation.report for evaluation in read_evaluations(file)] for file in _metric_files(repo)}
    before = {file: list(kept) for file, kept in files.items()}
    for new in (Evaluation(report).report for report in reports):
        name = data_stem(new["dataset"], new["split"])
        homes = [file for file, kept in files.items() if any(_is_of_same_split(one, new) for one in kept)]
        files = {file: [left for one in kept if (left := _without(one, new))] for file, kept in files.items()}
        files.setdefault(homes[0] if homes else repo / f"metrics_{name}.json", []).append(new)
    for file, kept in files.items():
        if kept and kept != before.get(file):
            with new_file(file, overwrite=True) as partial:
                content = kept if len(kept) > 1 else kept[0]
                partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        elif not kept:
            file.unlink()
    return write_card(repo, trust_remote_code=trust_remote_code)


def _metric_files(repo: Path) -> list[Path]:
    """The files whose metrics a card shows."""
    return sorted(repo.glob("metrics*.json"))


def _is_of_same_split(one: MeasuredData, other: MeasuredData) -> bool:
    """Whether both are of one split: of a data set that a card calls the same, or of the same files by another name."""
    digests = [part.get("dataset_sha256") for part in (one, other)]
    same_files = digests[0] is not None and digests[0] == digests[1]
    return one["split"] == other["split"] and (data_name(one) == data_name(other) or same_files)


def _without(one: EvaluationReport, new: EvaluationReport) -> EvaluationReport | None:
    """A report without what a new one replaces; None if nothing is left."""
    if not _is_of_same_split(one, new):
        return one
    versions = [(part.get("dataset_sha256"), part.get("dataset_revision")) for part in (one, new)]
    if versions[0] != versions[1]:
        return None
    metrics = {name: value for name, value in one["metrics"].items() if name not in new["metrics"]}
    return cast(EvaluationReport, {**one, "metrics": metrics}) if metrics else None
