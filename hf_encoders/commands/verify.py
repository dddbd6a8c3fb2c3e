"""`hf-encoders verify`: a converted repo, checked again.

    hf-encoders verify depth-semantic-encoder
    hf-encoders verify depth-semantic-encoder --against best_model.pth

Without a file, the repo's own tensors run through the independent forward.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import quiet_libraries
from .options import add_format, add_model
from .runner import Result

if TYPE_CHECKING:
    from ..conversion.assumptions import Assumption


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_model(parser, "folder or Hub id of a converted repo")
    parser.add_argument(
        "--against", type=Path, metavar="CHECKPOINT", help="the legacy file; default: the repo's tensors"
    )
    add_format(parser, "one document: what was compared, and by how much it differs")


def run(args: argparse.Namespace) -> Result:
    """Check that the weights are those of the report, and give the legacy network's numbers.

    Raises:
        ValueError: if something differs or is missing.
    """
    from ..conversion.assumptions import from_report, warnings
    from ..conversion.verify_repo import verify_repo

    quiet_libraries()
    verification = verify_repo(args.model, args.against, args.revision)
    assumed = from_report(verification)
    return Result([*warnings(assumed), *verification_lines(verification, assumed)], verification)


def verification_lines(verification: dict[str, Any] | None, assumed: "Sequence[Assumption]") -> list[str]:
    """What was compared, and how far apart it is.

    Args:
        verification: of a conversion report; None if nothing was compared.
        assumed: what both sides of the comparison assume. Such a result is consistent, and not verified.
    """
    from ..conversion.assumptions import verdict
    from ..conversion.compare import ABSOLUTE, MEASURES
    from ..conversion.write_repo import EMBEDDINGS

    if verification is None:
        return ["not verified (--no-verify)"]
    lines, word = [], verdict(assumed)
    measure = verification["measure"]
    for name in (name for name in (*EMBEDDINGS, "reconstruction", "cosine") if name in verification):
        result, limit = verification[name], f"at most {verification['tolerance']:.0e} allowed"
        if measure != ABSOLUTE:
            limit = f"{result['largest_difference']:.1e} of {result['largest_magnitude']:.3g}; {limit}"
        lines.append(f"{word}: {name} differ by {result[measure]:.1e}{MEASURES[measure]} ({limit})")
    if "rounding" in verification:
        rounding = dict(verification["rounding"])
        target = rounding.pop("to")
        for name, result in rounding.items():
            lines.append(f"rounding to {target}: cosine of the {name} at least {result['least_cosine']:.6f}")
    return lines
