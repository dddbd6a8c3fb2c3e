"""`hf-encoders verify`: check a converted repo again.

    hf-encoders verify depth-semantic-encoder
    hf-encoders verify depth-semantic-encoder --against best_model.pth
    hf-encoders verify adopted-repo --original net.py:Encoder --against last.ckpt

Without a file, the repo's own tensors run through the independent forward. An adopted repo is compared with its class,
whose code and the repo's then run in processes of their own; without --original its files are compared with the report.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..models.input_errors import printable
from ..plurals import counted
from ..progress import quiet_libraries
from .options import add_format, add_model, path
from .runner import Result

if TYPE_CHECKING:
    from pathlib import Path

    from ..conversion.assumptions import Assumption
    from ..hub.reports import Verification


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_model(parser, "folder or Hub id of a converted repo")
    parser.add_argument(
        "--against", type=path, metavar="CHECKPOINT", help="legacy file to compare with; default: the repo's tensors"
    )
    parser.add_argument(
        "--original", metavar="FILE.py:CLASS", help="of an adopted repo: the class to compare with, with --against"
    )
    add_format(parser, "one document: what was compared, and by how much it differs")


def run(args: argparse.Namespace) -> Result:
    """Check a repo; see `verify`."""
    return verify(args.model, args.against, revision=args.revision, original=args.original)


def verify(model: str, against: "Path | None" = None, *, revision: str = "main", original: str | None = None) -> Result:
    """Check that the weights are those of the report, and give the legacy network's numbers.

    Args:
        model: folder or Hub id of a converted or adopted repo.
        against: legacy file to compare with; by default the repo's own tensors.
        revision: branch, tag or commit on the Hub.
        original: of an adopted repo, FILE.py:CLASS to compare with.

    Raises:
        ValueError: if something differs or is missing.
    """
    from ..conversion.assumptions import from_report, warnings
    from ..conversion.read_repo import repo_folder
    from ..conversion.verify_repo import verify_repo
    from ..hub.kind import is_adopted

    quiet_libraries()
    if is_adopted(folder := repo_folder(model, revision)):
        return _adopted(model, folder, against, original)
    if original:
        raise ValueError(f"{model}: --original is for adopted repos, and this one was converted; leave it out")
    verification = verify_repo(model, against, revision)
    assumed = from_report(verification)
    return Result([*warnings(assumed, of_repo=True), *verification_lines(verification, assumed)], verification)


def _adopted(model: str, folder: "Path", against: "Path | None", original: str | None) -> Result:
    """Check the files of an adopted repo; with its class, also what they give."""
    from ..adopt.code.target import parse_target
    from ..adopt.verify_again import check_files, prove_again

    if (original is None) != (against is None):
        raise ValueError(f"{model}: an adopted repo is compared with --original and --against together")
    if original is None or against is None:
        files = check_files(folder)
        line = f"{model}: its {counted(len(files), 'file')} of weights and code are those that were verified"
        note = "note: --original FILE.py:CLASS --against CHECKPOINT compares what it gives with its class"
        return Result([printable(line), note], files)
    verification = prove_again(folder, parse_target(original), against)
    return Result([printable(f"{model}: verified against {verification['against']}")], verification)


def verification_lines(verification: "Verification | None", assumed: "Sequence[Assumption]") -> list[str]:
    """Say what was compared, and how far apart it is.

    Args:
        verification: the entry of a conversion report; None if nothing was compared.
        assumed: what both sides of the comparison assume. Such a result is consistent, and not verified.
    """
    from ..conversion.assumptions import verdict
    from ..conversion.compare import ABSOLUTE, MEASURES, compared_outputs

    if verification is None:
        return ["not verified (--no-verify)"]
    lines: list[str] = []
    word = verdict(assumed)
    measure = verification["measure"]
    for name, figures in compared_outputs(verification).items():
        limit = f"at most {verification['tolerance']:.0e} allowed"
        if measure != ABSOLUTE:
            limit = f"{figures['largest_difference']:.1e} of {figures['largest_magnitude']:.3g}; {limit}"
        lines.append(f"{word}: {name} differ by {figures[measure]:.1e}{MEASURES[measure]} ({limit})")
    rounding = verification.get("rounding", {})
    for name, rounded in rounding.items():
        if not isinstance(rounded, str):  # the precision
            cosine = f"cosine of the {name} at least {rounded['least_cosine']:.6f}"
            lines.append(f"rounding to {rounding['to']}: {cosine}")
    return lines
