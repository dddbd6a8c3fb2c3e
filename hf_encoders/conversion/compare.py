"""Compares the outputs of a repo with the legacy network's, for the verifications of all layouts."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from torch import Tensor

from ..hub.reports import Figures, Measure, Verification, VerificationInputs

AGAINST = "functional forward over the legacy tensors, float32, CPU"
# Figure of `compare` → its name in a sentence.
RELATIVE: Measure = "relative_difference"
ABSOLUTE: Measure = "largest_difference"
MEASURES: Mapping[Measure, str] = {RELATIVE: " relative", ABSOLUTE: ""}
EMBEDDINGS = ("embeddings", "text_embeds", "image_embeds", "depth_embeds", "pooler_output")
SEED = 0


class VerificationError(ValueError):
    """The repo and the legacy tensors do not give the same numbers."""


def judge(
    repo: Path,
    inputs: VerificationInputs,
    expected: Mapping[str, Tensor],
    actual: Mapping[str, Tensor],
    tolerance: float,
    measure: Measure,
    against: str | None = None,
) -> Verification:
    """Compare outputs by name.

    Args:
        repo: the repo that gave the actual outputs, for the message.
        inputs: what both networks were given, for the report.
        expected: outputs of the legacy network.
        actual: outputs of the repo, by the same names.
        tolerance: the largest difference that passes.
        measure: the figure of `compare` that it limits.
        against: the network that gave the expected outputs; by default our reference of the legacy network.

    Returns:
        The inputs, the limit, and the figures of each output by its name.

    Raises:
        VerificationError: if a difference is larger, or not a number.
    """
    outputs: dict[str, Figures] = {}
    for name in expected:
        outputs[name] = compare(expected[name], actual[name])
        difference = outputs[name][measure]
        if not difference <= tolerance:  # NaN fails too
            whose = "those of " + against if against else "the legacy network's"
            why = (
                "is it another network, or made otherwise?"
                if against
                else "a fault of the conversion, please report it"
            )
            raise VerificationError(
                f"{repo}: the {name} differ from {whose} by {difference:.1e}{MEASURES[measure]}, more than"
                f" {tolerance:.0e}; {why if against else f'this is {why}'}"
            )
    limits = {"inputs": inputs, "against": against or AGAINST, "tolerance": tolerance, "measure": measure}
    return cast(Verification, limits | outputs)


def compared_outputs(verification: Verification) -> dict[str, Figures]:
    """Output → its figures, of a verification."""
    outputs = (*EMBEDDINGS, "last_hidden_state", "logits", "reconstruction", "cosine")
    figures = {name: cast(Figures, entry) for name, entry in verification.items() if name in outputs}
    return {name: figures[name] for name in outputs if name in figures}


def compare(expected: Tensor, actual: Tensor) -> Figures:
    """Measure the largest difference and the largest magnitude, for the report."""
    difference = (expected - actual).abs().max().item()
    magnitude = expected.abs().max().item()
    return {
        "largest_difference": difference,
        "largest_magnitude": magnitude,
        "relative_difference": difference / magnitude if magnitude else difference,
    }
