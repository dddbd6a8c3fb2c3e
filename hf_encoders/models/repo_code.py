"""What code of its own a repo brings: which files `trust_remote_code` would run. Nothing of it is run here."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils.hub import extract_commit_hash

from .input_errors import InputError

# Part of a repo → the files of settings that may name its code, and the auto classes by which they do.
_SETTINGS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "model": (("config.json",), ("AutoConfig", "AutoModel")),
    "tokenizer": (("tokenizer_config.json", "config.json"), ("AutoTokenizer",)),
    "image processor": (
        ("preprocessor_config.json", "processor_config.json", "config.json"),
        ("AutoImageProcessor", "AutoFeatureExtractor"),
    ),
}
_SHOWN = 8  # files of code that an error names
_IMPORT = re.compile(r"^\s*from\s+\.(?:(\w+)\s+import|\s+import\s+([\w, ]+))", re.MULTILINE)


def repo_file(name: str, file: str, revision: str) -> Path | None:
    """A file of a folder or of a repo on the Hub; None if there is none, or it cannot be had."""
    try:
        path = Path(name) / file if Path(name).is_dir() else Path(hf_hub_download(name, file, revision=revision))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
        return None
    return path if path.is_file() else None


def commit_of(name: str, revision: str) -> str | None:
    """The commit that a revision of a repo on the Hub is now; None for a folder, or if it cannot be had."""
    path = None if Path(name).is_dir() else repo_file(name, "config.json", revision)
    return extract_commit_hash(str(path), None) if path else None


class NeedsCodeError(InputError):
    """A repo that needs its own code, where nobody said that it may run."""


def code_files(name: str, revision: str, part: str = "model") -> list[str]:
    """The Python files that a part of a repo would run, and those that these import from beside them.

    Args:
        name: folder or Hub id.
        revision: branch, tag or commit on the Hub.
        part: "model", "tokenizer" or "image processor".

    Returns:
        Names of files; those of another repo begin with its id.
    """
    found: dict[str, None] = {}
    files, classes = _SETTINGS[part]
    for file in files:
        path = repo_file(name, file, revision)
        for reference in _references(path, classes):
            repo, _, place = reference.rpartition("--")  # such as OTHER/REPO--modeling.Model
            _add(found, repo or name, f"{place.split('.')[0]}.py", f"{repo}/" if repo else "", revision)
    return list(found)


def needs_code(
    name: str, revision: str, part: str = "model", *, say: str = "--trust-remote-code"
) -> NeedsCodeError | None:
    """The error of a repo that needs its own code, which says which files would run; None if it names no code.

    Args:
        name: folder or Hub id.
        revision: branch, tag or commit on the Hub.
        part: see `code_files`.
        say: what runs it where it is said.
    """
    files = code_files(name, revision, part)
    if not files:
        return None
    shown = ", ".join(files[:_SHOWN]) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
    reason = f"{'' if part == 'model' else f'its {part} '}needs code of its repo ({shown}), which was not run"
    return NeedsCodeError(path=name, reason=reason, hint=f"read it, then say {say}")


def installed_config(source: str | os.PathLike[str]) -> PreTrainedConfig:
    """A repo's configuration, of a class of transformers or of this package. No code of the repo is run or asked about.

    Args:
        source: folder or Hub id.

    Raises:
        InputError: if its class lies in the repo.
        OSError, ValueError: if there is none, or it cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except ValueError as error:
        if "trust_remote_code" in str(error) and (files := code_files(os.fspath(source), "main")):
            reason = f"a model whose code lies in its repo ({files[0]}), which is not run here"
            raise InputError(path=source, reason=reason, hint="give one of transformers or of this package") from None
        raise


def _add(found: dict[str, None], repo: str, file: str, prefix: str, revision: str) -> None:
    if prefix + file in found:
        return
    found[prefix + file] = None
    if path := repo_file(repo, file, "main" if prefix else revision):
        for groups in _IMPORT.findall(path.read_text(encoding="utf-8", errors="replace")):
            for module in re.findall(r"\w+", " ".join(groups)):
                if repo_file(repo, f"{module}.py", "main" if prefix else revision):
                    _add(found, repo, f"{module}.py", prefix, revision)


def _references(path: Path | None, classes: tuple[str, ...]) -> Iterator[str]:
    if path is None:
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    parts = [content, *content.values()] if isinstance(content, Mapping) else []
    for part in parts:  # processor_config.json holds the settings of each processor
        mapping = part.get("auto_map") if isinstance(part, Mapping) else None
        # Older tokenizers name their code without a class.
        values = [mapping.get(name) for name in classes] if isinstance(mapping, Mapping) else [mapping]
        for value in values:  # a tokenizer's are a pair, of which one may be missing
            yield from (name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str))
