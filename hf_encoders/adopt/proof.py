"""The proof: what a class gives in its own process, and what its repo gives in another one, bit for bit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..conversion.compare import ABSOLUTE, SEED, compare
from ..hub.reports import Figures, Verification
from .errors import AdoptError
from .generation import Input

_MORE = 2  # rows that the second batch has beyond the first


def run_request(
    work: Path, inputs: Sequence[Input], expressions: Sequence[str] | None, given: Mapping[str, Tensor]
) -> dict[str, object]:
    """What the process of the class is asked: to run two batches, of which the second is larger.

    Args:
        work: its folder, which gets the tensors that are given.
        inputs: the main one first.
        expressions: what the embedding begins with, see `beginnings`; None where the output is the embedding.
        given: inputs of the first batch, by the names of `forward`; the others are seeded numbers.
    """
    sizes = {len(tensor) for tensor in given.values()} or {inputs[0].shape[0]}
    if len(sizes) > 1:
        raise AdoptError(name="--example", reason="its inputs have batches of different sizes")
    first = sizes.pop()
    if given:
        save_file({f"0.{name}": tensor for name, tensor in given.items()}, work / "given.safetensors")
    return {"inputs": [vars(one) for one in inputs], "batches": [first, first + _MORE], "embedding": expressions}


def judge_bits(work: Path, name: str, file: str, checkpoint: Path) -> Verification:
    """Compare what a repo gives with what the class gives.

    Args:
        work: the folder of both processes.
        name: of the class.
        file: that it is in.
        checkpoint: the file of weights.

    Raises:
        AdoptError: if a bit differs.
    """
    expected, actual = load_file(work / "expected.safetensors"), load_file(work / "actual.safetensors")
    figures: dict[str, Figures] = {}
    for key in expected:
        output = key.partition(".")[2]
        if expected[key].shape != actual[key].shape:
            found = f"{list(actual[key].shape)}, and that of {name} is {list(expected[key].shape)}"
            raise AdoptError(f"the repo's {output} is {found}")
        one = compare(expected[key], actual[key])
        if not torch.equal(expected[key], actual[key]):
            raise AdoptError(
                f"the repo's {output} differs from that of {name} by {one['largest_difference']:.1e}; does the"
                " code do something at its import, or keep values outside of its weights?"
            )
        before = figures.get(output)
        if before is None or one["largest_magnitude"] > before["largest_magnitude"]:
            figures[output] = one
    shapes = {key: list(tensor.shape) for key, tensor in load_file(work / "inputs.safetensors").items()}
    against = f"{name} of {file} with the weights of {checkpoint.name}, float32, CPU: the same bits"
    limits = {"inputs": {"shapes": shapes, "seed": SEED}, "against": against, "tolerance": 0.0, "measure": ABSOLUTE}
    return cast(Verification, limits | figures)  # the outputs are keys beside those of the type
