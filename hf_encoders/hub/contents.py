"""What a model repo consists of: a list of files, so that nothing else of a folder ever leaves this machine."""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from .. import models
from ..models.repo_code import code_files
from .card_figures import FIGURE_KINDS, FIGURES_FOLDER
from .kind import is_adopted, is_joined
from .model_card import CARD_NAME

# Patterns of paths below the folder; a pattern without "/" is for its top alone.
_REPO_FILES = (
    # weights and their settings
    "config.json", "generation_config.json", "model*.safetensors", "model*.safetensors.index.json",
    "adapter_config.json", "adapter_model*.safetensors", "training_state.safetensors", "training_state.json",
    # processors and tokenizers
    "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model", "tokenizer.model", "chat_template.jinja", "chat_template.json",
    # sentence-transformers
    "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "?_*/config.json",
    "?_*/model.safetensors",
    # reports and the card
    CARD_NAME, "LICENSE*", "NOTICE*", ".gitattributes", "conversion_report.json", "export_report.json",
    "metrics*.json", "training_recipe.yaml", "training_curves.png", ".eval_results/*.yaml",
    *(f"{FIGURES_FOLDER}/{kind}-*.{end}" for kind in FIGURE_KINDS for end in ("json", "png")),
    # compiled towers
    "onnx/*.onnx", "onnx/*.onnx.data", "onnx/export.json", "onnx/export_report.json", "openvino/*.xml",
    "openvino/*.bin", "openvino/export.json", "openvino/export_report.json",
)  # fmt: skip
# The code of a repo is that of this package.
_CODE = frozenset(path.name for path in Path(models.__path__[0]).glob("*.py"))
# Pictures that a card shows, in Markdown or HTML.
_PICTURE = re.compile(r"""(?:\]\(|src=["'])([^)"'\s:]+\.(?:png|jpe?g|gif|webp|svg))""", re.IGNORECASE)


@dataclass(frozen=True)
class Contents:
    """The files below a folder, as paths with "/".

    Args:
        files: those of a model repo.
        left_out: the others.
    """

    files: list[str]
    left_out: list[str]

    def left_out_line(self) -> str:
        """What is left out, folders with the number of their files; empty if nothing is."""
        counts: dict[str, int] = {}
        for name in self.left_out:
            top, _, rest = name.partition("/")
            counts[f"{top}/" if rest else top] = counts.get(f"{top}/" if rest else top, 0) + 1
        noun = {1: "file"}
        return ", ".join(
            f"{top} ({count} {noun.get(count, 'files')})" if top.endswith("/") else top for top, count in counts.items()
        )


def repo_contents(folder: Path, include: Sequence[str] = ()) -> Contents:
    """Tell the files of a model repo from what else lies in a folder: runs, logs, secrets.

    Args:
        folder: of a model that was converted, trained or saved here.
        include: patterns of paths that belong to it too, such as "examples/*".

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    shown = {*_pictures(folder), *(_own_code(folder) if is_adopted(folder) or is_joined(folder) else ())}
    files = [path for path in paths if path in shown or _belongs(path, include)]
    return Contents(files, sorted(set(paths) - set(files)))


def copy_contents(folder: Path, repo: Path, include: Sequence[str] = (), *, link_weights: bool = False) -> None:
    """Copy the files of a model repo.

    Args:
        folder: where they are.
        repo: where to; it may exist.
        include: see `repo_contents`.
        link_weights: link to weights, which are large, for a copy that is only read.
    """
    for name in repo_contents(folder, include).files:
        target = repo / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if link_weights and name.endswith(".safetensors"):
            target.symlink_to((folder / name).resolve())
        else:
            shutil.copyfile(folder / name, target)


def _own_code(folder: Path) -> list[str]:
    """The code of an adopted network, or of towers that are some, and the list of what it imports.

    The settings of the model and of its processor lead to it.
    """
    code = [file for part in ("model", "image processor") for file in code_files(str(folder), "main", part)]
    return [*code, "requirements.txt"]


def _belongs(path: str, include: Sequence[str]) -> bool:
    if path in _CODE or any(fnmatch(path, pattern) for pattern in include):
        return True
    # fnmatch's star takes "/" too; PurePath.match does not.
    depth = path.count("/")
    return any(PurePosixPath(path).match(pattern) for pattern in _REPO_FILES if pattern.count("/") == depth)


def _pictures(folder: Path) -> Iterator[str]:
    """The pictures of the folder that its card shows."""
    card = folder / CARD_NAME
    if card.is_file():
        for name in _PICTURE.findall(card.read_text(encoding="utf-8", errors="replace")):
            yield PurePosixPath(name).as_posix()
