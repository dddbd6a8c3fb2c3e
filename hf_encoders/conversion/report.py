"""conversion_report.json: the proof that a conversion leaves beside the weights."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from ..checkpoints.finding.choice import ChosenWeights
from ..fingerprint import sha256
from ..hub.model_card import REPORT_NAME
from ..hub.reports import ConversionReport, Json, TakenWeights
from ..versions import library_versions
from .families.names import layout_of
from .plain_data import harmless, plain_text
from .source_files import source_files

_LIBRARIES = ("torch", "transformers", "safetensors", "huggingface_hub", "numpy")


def weight_digests(repo: Path) -> dict[str, str]:
    """SHA-256 of each weight file of a repo."""
    return {path.name: sha256(path) for path in sorted(repo.glob("*.safetensors"))}


def source_digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of the list of its files with the digest of each."""
    if path.is_file():
        return sha256(path)
    lines = [f"{sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in source_files(path)]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def taken_weights(chosen: ChosenWeights, notes: Sequence[str]) -> TakenWeights:
    """The entry about the weights that were taken.

    Args:
        chosen: the weights.
        notes: what became of them, beside the choice.
    """
    return {
        "path": plain_text(chosen.network.path),
        "prefix": plain_text(chosen.network.prefix),
        "ignored": list(chosen.ignored),
        "others": [
            {"path": plain_text(other.path), "family": layout_of(other), "tensors": len(other.members)}
            for other in chosen.others
        ],
        "notes": [harmless(note) for note in [*chosen.notes, *notes]],
    }


def report_versions() -> dict[str, str]:
    """Versions of the software that computed the numbers of a report."""
    return {"python": platform.python_version()} | library_versions(_LIBRARIES)


def plain(text: str) -> str:
    """A text as UTF-8 can hold it: names that are not valid UTF-8 reach Python as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def file_name(source: str) -> str:
    """A source's name in a report: a Hub id as it is, a file or folder without its place on this machine."""
    return plain(Path(source).resolve().name if Path(source).exists() else source)


def write_report(repo: Path, report: Mapping[str, object]) -> None:
    """Write conversion_report.json."""
    (repo / REPORT_NAME).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_report(repo: Path) -> ConversionReport:
    """Read conversion_report.json.

    Raises:
        ValueError: if the folder has none, or it is damaged.
    """
    path = repo / REPORT_NAME
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{repo}: has no {REPORT_NAME}; it is not a repo that hf-encoders convert wrote") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(report, dict) or not {"source", "weights_sha256"} <= report.keys():
        raise ValueError(f"{path}: not what hf-encoders convert wrote; convert the checkpoint again")
    return cast(ConversionReport, report)


def known_metadata(repo: Path) -> Mapping[str, Json]:
    """The source's own entries about its training, where the repo was converted and still has the report."""
    return read_report(repo)["source"]["metadata"] if (repo / REPORT_NAME).is_file() else {}
