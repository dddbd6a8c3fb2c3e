"""Checks that the files of an adopted repo are those that were verified."""

from pathlib import Path

from ..conversion.report import read_report
from ..fingerprint import sha256
from .errors import AdoptError


def check_files(repo: Path) -> dict[str, str]:
    """Compare the weights and the code of a repo with its report. None of the code is run.

    Args:
        repo: its folder.

    Returns:
        File → its digest.

    Raises:
        AdoptError: if one is missing, or another one; if code is there that was not verified.
    """
    report = read_report(repo)
    adopted = report.get("adopted")
    stated = {**report["weights_sha256"], **(adopted["code_sha256"] if adopted else {})}
    for name, digest in stated.items():
        file = repo / name
        if not file.is_file() or sha256(file) != digest:
            what = "is not the file that was verified" if file.is_file() else "is missing"
            raise AdoptError(path=repo, reason=f"{name} {what}", hint="adopt the network again")
    if others := sorted({path.name for path in repo.glob("*.py")} - stated.keys()):
        raise AdoptError(path=repo, reason=f"{others[0]} is code that was not verified")
    return stated
