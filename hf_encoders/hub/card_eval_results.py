"""Evaluations in the Hub's own format, `.eval_results/*.yaml`, of which data sets collect their leaderboards.

An entry names a data set on the Hub and a task of it; see huggingface.co/docs/hub/eval-results. Data of a folder have
no such name: their numbers are in the model-index and the tables of the card alone.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from ..outputs import new_file
from ..plurals import counted
from .card_metrics import Evaluation, data_stem

FOLDER = ".eval_results"
# Other files of the folder are somebody else's.
PATTERN = "metrics_*.yaml"


def write_eval_results(repo: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write the numbers on data sets of the Hub, a file for each split, and remove those that are there no more.

    Args:
        repo: folder of the model that was measured.
        evaluations: all that the card shows.

    Raises:
        OSError: if a file cannot be written.
    """
    files: dict[Path, list[EvalResultEntry]] = {}
    for evaluation in evaluations:
        if entries := _entries(evaluation):
            stem = data_stem(evaluation.report["dataset"], evaluation.report["split"])
            files.setdefault(repo / FOLDER / PATTERN.replace("*", stem), []).extend(entries)
    for path, entries in files.items():
        path.parent.mkdir(exist_ok=True)
        content = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
        with new_file(path, overwrite=True) as partial:
            partial.write_text(content, encoding="utf-8")
    for path in (repo / FOLDER).glob(PATTERN):
        if path not in files:
            path.unlink()


def _entries(evaluation: Evaluation) -> list[EvalResultEntry]:
    """An entry per metric. A task is of one split, so its name has the split, as a data set's eval.yaml may name it."""
    report = evaluation.report
    if "dataset_sha256" in report:
        return []
    of = f"split {report['split']}, {counted(report['rows'], 'row')}, weights {evaluation.fingerprint}"
    return [
        EvalResultEntry(
            dataset_id=result.dataset_type,
            task_id=_task(f"{report['split']}-{result.metric_name}"),
            value=result.metric_value,
            dataset_revision=result.dataset_revision,
            notes=f"{result.metric_name}, {of}, hf-encoders evaluate",
        )
        for result in evaluation.results()
    ]


def _task(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name.replace("@", "_at_"))
