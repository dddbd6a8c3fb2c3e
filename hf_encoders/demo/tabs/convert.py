"""The tab that looks into a checkpoint, converts it, and gives the repo back as a zip file."""

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from ...checkpoints.finding.choice import WeightsWanted
from ...conversion.convert import convert
from ...conversion.families.legacy.multimodal_layouts import MULTIMODAL
from ...conversion.inspection import Inspection, inspect_checkpoint
from ...conversion.multimodal import MultimodalOptions
from ...conversion.report import read_report
from ..conversion_markup import inspection_markup, report_markup
from ..markup import message, note
from ..page_parts import Page


@dataclass(frozen=True)
class Sent:
    """A checkpoint that a person sent.

    Args:
        path: where it is, in a folder of its own.
        found: what is in it.
    """

    path: Path
    found: Inspection


def add_convert(page: Page) -> None:
    """Add the tab."""
    words, tab = page.words, ConvertTab(page)
    sent = gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            file = gr.File(label=words.drop_checkpoint, height=170, elem_classes="hfe-taken")
            gr.HTML(note(words.checkpoint_hint))
            weights = gr.Dropdown([], label=words.which_weights, visible=False)
            start = gr.Button(words.convert_it, variant="primary", interactive=False)
        with gr.Column(scale=3, min_width=280):
            found = gr.HTML()
            report = gr.HTML()
    one: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "convert", "concurrency_limit": 1}
    file.upload(tab.look, [file, sent], [sent, found, weights, start, report], **one)
    file.clear(tab.forget, [sent], [sent, found, weights, start, report], **one)
    start.click(tab.convert, [sent, weights], report, **one)


class ConvertTab:
    """Answers of the tab."""

    def __init__(self, page: Page):
        self._page, self._words = page, page.words

    def look(self, file: str | None, before: Sent | None) -> tuple[Sent | None, str, Any, Any, str]:
        """Look into a file; nothing in it is executed. The one before it is removed."""
        if before is not None:
            self._page.uploads.drop(before.path)

        def work() -> tuple[Sent | None, str, Any, Any, str]:
            path = self._page.uploads.take(file or "")
            try:
                found = inspect_checkpoint(path)
            except BaseException:
                self._page.uploads.drop(path)
                raise
            paths = [weights["path"] for weights in found["weights"]]
            families = [weights["path"] for weights in found["weights"] if weights["family"]]
            choices = gr.Dropdown(paths, value=None, visible=len(paths) > 1, interactive=True)
            if len(families) == 1:
                choices = gr.Dropdown(paths, value=families[0], visible=len(paths) > 1, interactive=True)
            told = inspection_markup({**found, "file": path.name}, self._words)
            return Sent(path, found), told, choices, gr.Button(interactive=bool(paths)), ""

        return self._page.answer(work, lambda said: (None, said, *_nothing_to_convert(), ""))

    def forget(self, before: Sent | None) -> tuple[None, str, Any, Any, str]:
        """Remove the file."""
        if before is not None:
            self._page.uploads.drop(before.path)
        return (None, "", *_nothing_to_convert(), "")

    def convert(self, sent: Sent | None, weights: str | None) -> str:
        """Convert the file, and offer the repo as a zip file."""
        if sent is None:
            return message(self._words.no_checkpoint_yet)
        return self._page.answer(lambda: self._converted(sent, weights), lambda said: said)

    def _converted(self, sent: Sent, weights: str | None) -> str:
        uploads = self._page.uploads
        if not sent.path.is_file():
            raise FileNotFoundError(self._words.no_checkpoint_yet)
        folder = uploads.new_folder()
        try:
            several = len(sent.found["weights"]) > 1
            repo = convert(
                sent.path,
                folder / f"{sent.path.stem or 'checkpoint'}-hf",
                weights=WeightsWanted(weights) if several and weights else None,
                multimodal=MultimodalOptions(allow_no_tokenizer=True) if _is_multimodal(sent, weights) else None,
            )
            report = read_report(repo)
            offer = uploads.offer(_zipped(repo))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return report_markup(
            report, weights, offer, f"{self._page.downloads}/{offer.key}/{quote(offer.name)}", self._words
        )


def _nothing_to_convert() -> tuple[Any, Any]:
    return gr.Dropdown([], value=None, visible=False), gr.Button(interactive=False)


def _is_multimodal(sent: Sent, weights: str | None) -> bool:
    """Whether a legacy multimodal encoder is converted: its file holds no tokenizer, and the page asks for none."""
    found = [one for one in sent.found["weights"] if weights in (None, one["path"])]
    return any(one["family"] == MULTIMODAL for one in found)


def _zipped(repo: Path) -> Path:
    """A folder as a zip file beside it, whose files lie in a folder of the same name. Weights are not compressible."""
    path = repo.with_name(f"{repo.name}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(repo.rglob("*")):
            archive.write(file, Path(repo.name) / file.relative_to(repo))
    return path
