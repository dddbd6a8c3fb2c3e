"""Which pictures `hf-encoders evaluate --figures` draws, their names, and how they are written: all or none."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ...evaluation.confusion import Confusion, Groups, confusion, confusion_of_groups
from ...evaluation.evaluate import Measured, Plan, Report
from ...evaluation.found_pictures import CaptionSearch
from ...evaluation.probes import need_scikit_learn
from ...evaluation.recall_curves import recall_curves
from ...evaluation.similarities import similarities
from ...evaluation.tasks import Answers, recall_line
from ...hub.card_metrics import data_name, data_stem
from ...modalities import PICTURES
from ...outputs import check_file, new_files
from ...plurals import counted
from ..runner import to_json
from .confusion_matrix import draw_confusion
from .page import need_matplotlib
from .recall_chart import draw_recall
from .retrieval_sheet import RetrievalSheet, SheetOptions
from .similarity_map import draw_similarities

_SHOWN_MISTAKES, _KEPT_MISTAKES = 3, 100
_MAPPED_ROWS = 32  # of a map of similarities
_NOUNS = {"text": "texts", "image": "images", "depth": "depth maps"}


@dataclass(frozen=True)
class Figures:
    """The pictures of an evaluation, in one folder.

    Args:
        folder: where they are written, among what it holds.
        overwrite: replace pictures of the same names.
        sheet: what is on a sheet of captions.
    """

    folder: Path
    overwrite: bool = False
    sheet: SheetOptions = SheetOptions()

    def check(self, plan: Plan) -> list[Path]:
        """Refuse what cannot be drawn or written, before anything is embedded.

        Returns:
            The files that will be written.

        Raises:
            ValueError: if there is too much for a sheet, or a library is missing.
            OSError: if a picture exists already or cannot be written.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise FileExistsError(f"{self.folder}: a file; --figures names a folder")
        names = [name for place in range(len(plan.tests)) for name in _names(plan, place)]
        if any(name.startswith("confusion-") for name in names):
            need_scikit_learn("a confusion matrix")
            need_matplotlib("a confusion matrix")
        if any(name.startswith("recall-") for name in names):
            need_matplotlib("recalls")
        if any(name.startswith("retrieval-") for name in names):
            for test, columns in zip(plan.tests, plan.columns, strict=True):
                self.sheet.check(len(test.rows), len(_pictures(columns)))
        files = [self.folder / f"{name}{suffix}" for name in names for suffix in (".png", ".json")]
        for file in files:
            check_file(file, self.overwrite)
        return files

    def write(self, measured: list[Measured]) -> None:
        """Draw and write the pictures, each beside its data as JSON.

        Raises:
            OSError: if one cannot be written; then none is.
        """
        with new_files(self.folder, manifest=None) as partial:
            for figure in (figure for one in measured for figure in _figures(one, self.sheet)):
                figure.save_data(partial / f"{figure.name}.json")
                figure.save_picture(partial / f"{figure.name}.png")
            for path in partial.iterdir():
                check_file(self.folder / path.name, self.overwrite)  # another process may have written it meanwhile


@dataclass(frozen=True)
class _Figure:
    """A picture and its data.

    Args:
        name: of both files, without the suffix.
        content: the data.
        save_picture: draws it into a file.
    """

    name: str
    content: Mapping[str, object]
    save_picture: Callable[[Path], None]

    def save_data(self, path: Path) -> None:
        """Write the data."""
        path.write_text(to_json(self.content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _names(plan: Plan, place: int) -> list[str]:
    """The names of the pictures of a split, as `_figures` gives them."""
    options, test, columns = plan.options, plan.tests[place], plan.columns[place]
    stem = data_stem(test.name, test.split)
    names = []
    if "retrieval" in options.tasks and len(columns) > 1:
        names += [_recall_name(stem), _similarity_name(stem)]
        names += [_sheet_name(stem)] if "text" in columns and _pictures(columns) else []
    for column in plan.label_columns:
        for task in options.tasks:
            if task != "retrieval":
                for modality in _pictures(columns) if task == "zero-shot" else plan.train_columns:
                    names.append(_confusion_name(stem, task, column, modality))
                    if options.group_column:
                        names.append(_confusion_name(stem, task, column, modality, options.group_column))
    return names


def _figures(measured: Measured, sheet: SheetOptions) -> Iterator[_Figure]:
    report = measured.report
    stem = data_stem(report["dataset"], report["split"])
    pictures = _pictures(report["columns"])
    if len(measured.embedded.embeds) > 1 and _has_retrieval(report):
        yield _recall(measured, stem)
        yield _similarity(measured, stem)
        if "text" in measured.embedded.embeds and pictures:
            yield _sheet(measured, pictures, stem, sheet)
    for answers in measured.answers:
        single = confusion(answers.right, answers.given, answers.classes)
        groups = measured.groups.get(answers.column)
        yield _matrix(report, answers, single, stem, groups, None)
        if groups is not None:
            yield _matrix(report, answers, confusion_of_groups(answers, groups), stem, groups, measured.group_column)


def _recall(measured: Measured, stem: str) -> _Figure:
    report = measured.report
    curves = recall_curves(measured.embedded)
    title = f"Recall@k, {_data(report)}"

    def save(path: Path) -> None:
        draw_recall(path, curves, _model(report), [title, recall_line(report["metrics"])])

    content = {"title": title, **_origin(report), "curves": [asdict(curve) for curve in curves]}
    return _Figure(_recall_name(stem), content, save)


def _similarity(measured: Measured, stem: str) -> _Figure:
    report = measured.report
    maps = similarities(measured.embedded, _MAPPED_ROWS)
    title = f"Similarities, {_data(report)}"
    shown = f"{counted(len(maps[0].rows), 'row')} from all over the split; ring: the most similar one is a wrong one"
    means = [f"{one.query} → {one.found} {one.means()[0]:.2f} and {one.means()[1]:.2f}" for one in maps]
    lines = [title, shown, f"mean cosine of pairs that belong together, and of others: {', '.join(means)}"]

    def save(path: Path) -> None:
        draw_similarities(path, maps, _model(report), lines)

    content = [
        {
            "query": one.query,
            "found": one.found,
            "rows": one.rows,
            "names": one.names,
            "cosines": [[round(cosine, 6) for cosine in row] for row in one.cosines.tolist()],
            "right": one.right.tolist(),
        }
        for one in maps
    ]
    return _Figure(_similarity_name(stem), {"title": title, **_origin(report), "maps": content}, save)


def _sheet(measured: Measured, pictures: list[str], stem: str, options: SheetOptions) -> _Figure:
    report = measured.report
    sheet = RetrievalSheet(CaptionSearch(measured.embedded), pictures, options)
    title = f"Captions and the {' and '.join(_NOUNS[name] for name in pictures)} that they find, {_data(report)}"

    def save(path: Path) -> None:
        image = sheet.draw(f"{_model(report)}: {title}", report["metrics"], measured.rows, report["columns"])
        image.save(path, format="PNG")

    return _Figure(_sheet_name(stem), {"title": title, **_origin(report), **sheet.content()}, save)


def _matrix(
    report: Report, answers: Answers, found: Confusion, stem: str, groups: Groups | None, by: str | None
) -> _Figure:
    """A confusion matrix of classes; or of groups of them, where `by` names their column."""
    what = f"{answers.column} by {by}" if by else answers.column
    title = f"{answers.task}, {what}, {_NOUNS[answers.modality]}, {_data(report)}"
    content = {
        "title": f"Confusion matrix: {title}",
        **_origin(report),
        "task": answers.task,
        "column": answers.column,
        "by": by,
        "modality": answers.modality,
        "right": found.right,
        "total": found.total,
        "most_confused": [
            {"right": right, "answered": given, "count": count}
            for right, given, count in found.most_confused(_KEPT_MISTAKES)
        ],
        "classes": found.classes,
        "counts": found.counts.tolist(),  # a row per right class, a column per answer
    }
    if groups is not None:
        content["groups"] = {str(label): group for label, group in groups.items()}
    mistakes = [f"{right} → {given} ({count})" for right, given, count in found.most_confused(_SHOWN_MISTAKES)]
    lines = [title, f"{found.right} of {found.total} right, {found.right / found.total:.1%}"]
    if mistakes:
        lines.append(f"most often confused: {', '.join(mistakes)}")

    def save(path: Path) -> None:
        draw_confusion(path, found, _model(report), lines, None if by else groups)

    return _Figure(_confusion_name(stem, answers.task, answers.column, answers.modality, by), content, save)


def _origin(report: Report) -> dict[str, object]:
    """What a picture is of: the model, and the data with their version."""
    names = ("model", "fingerprint", "dataset", "split", "dataset_sha256", "dataset_revision", "rows")
    return {name: report[name] for name in names if name in report}


def _data(report: Report) -> str:
    return f"{data_name(report)} ({report['split']}, {counted(report['rows'], 'row')})"  # type: ignore[arg-type]


def _model(report: Report) -> str:
    return Path(report["model"]).resolve().name if Path(report["model"]).exists() else report["model"]


def _has_retrieval(report: Report) -> bool:
    return any(name.startswith("retrieval/") for name in report["metrics"])


def _pictures(columns: Mapping[str, str]) -> list[str]:
    return [modality for modality in PICTURES if modality in columns]


def _recall_name(stem: str) -> str:
    return f"recall-{stem}"


def _similarity_name(stem: str) -> str:
    return f"similarity-{stem}"


def _sheet_name(stem: str) -> str:
    return f"retrieval-{stem}"


def _confusion_name(stem: str, task: str, column: str, modality: str, by: str | None = None) -> str:
    name = f"confusion-{stem}-{task}-{column}-{f'by-{by}-' if by else ''}{modality}"
    return name.replace("/", "-").replace("\\", "-")
