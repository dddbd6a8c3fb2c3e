"""Compares the outputs of a repo with the legacy network's, for the verifications of all layouts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

AGAINST = "functional forward over the legacy tensors, float32, CPU"
# Figure of `compare` → its name in a sentence.
RELATIVE, ABSOLUTE = "relative_difference", "largest_difference"
MEASURES = {RELATIVE: " relative", ABSOLUTE: ""}
SEED = 0


class VerificationError(ValueError):
    """The repo and the legacy tensors do not give the same numbers."""


def judge(
    repo: Path, expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], tolerance: float, measure: str
) -> dict[str, Any]:
    """Compare outputs by name.

    Args:
        repo: the repo that gave the actual outputs, for the message.
        expected: outputs of the legacy network.
        actual: outputs of the repo, by the same names.
        tolerance: the largest difference that passes.
        measure: the figure of `compare` that it limits, RELATIVE or ABSOLUTE.

    Returns:
        The figures of each output, and the limit.

    Raises:
        VerificationError: if a difference is larger, or not a number.
    """
    result: dict[str, Any] = {"tolerance": tolerance, "measure": measure}
    for name in expected:
        result[name] = compare(expected[name], actual[name])
        difference = result[name][measure]
        if not difference <= tolerance:  # NaN fails too
            raise VerificationError(
                f"{repo}: the {name} differ from the legacy network's by {difference:.1e}{MEASURES[measure]}, more than"
                f" {tolerance:.0e}; this is a fault of the conversion, please report it"
            )
    return result


def compare(expected: Tensor, actual: Tensor) -> dict[str, float]:
    """Measure the largest difference and the largest magnitude, for the report."""
    difference = (expected - actual).abs().max().item()
    magnitude = expected.abs().max().item()
    return {
        "largest_difference": difference,
        "largest_magnitude": magnitude,
        "relative_difference": difference / magnitude if magnitude else difference,
    }
