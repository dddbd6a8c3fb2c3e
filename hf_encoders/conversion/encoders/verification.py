"""Proves that a repo of a known family computes what its checkpoint computes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

import torch
import transformers
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from ...hub.reports import Verification, VerificationInputs
from ...models.repo_code import installed_config
from ..compare import RELATIVE, SEED, VerificationError, judge
from ..families.family import Plan

TOLERANCE = 1e-4  # largest difference, relative to the largest magnitude
_HIDDEN, _POOLED = "last_hidden_state", "pooler_output"


class Witness(Protocol):
    """A network that computes the expected outputs in the place of a family's reference."""

    def against(self, checkpoint: Path) -> str:
        """What the report says of it."""

    def computed(self, checkpoint: Path, inputs: Mapping[str, Tensor], *, is_classifier: bool) -> dict[str, Tensor]:
        """Its outputs with the weights of a file, by the names of transformers.

        Args:
            checkpoint: the file.
            inputs: by the names of transformers, the main one first.
            is_classifier: whether the model that is compared has logits.
        """


def witness_outputs(plan: Plan, path: Path, witness: Witness) -> dict[str, Tensor]:
    """Run the verification's inputs through another network than the family's reference; see `encoder_outputs`."""
    outputs = witness.computed(path, plan.inputs, is_classifier="ForImageClassification" in plan.architecture)
    return {name: _comparable(name, output, plan.inputs) for name, output in outputs.items()}


def encoder_outputs(plan: Plan, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run the verification's inputs through the family's reference.

    Args:
        plan: of the file.
        tensors: by canonical name, in any precision.

    Returns:
        Outputs by the names of transformers; padded tokens are zeros.
    """
    with torch.inference_mode():
        outputs = plan.reference(tensors, plan.inputs)
    # Copies, because a tensor of a file that is returned keeps the whole file in memory.
    return {name: _comparable(name, output.clone(), plan.inputs) for name, output in outputs.items()}


def verify_encoder(
    repo: Path, inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor], against: str | None = None
) -> Verification:
    """Run inputs through a repo, loaded with AutoModel and, for what only that gives, with its own class, in float32.

    Args:
        repo: a folder with a model of transformers.
        inputs: of both networks.
        expected: outputs of the reference over tensors in the repo's precision, see `encoder_outputs`.
        against: the network that gave them; by default the family's reference.

    Raises:
        VerificationError: if a weight is made at random while it is loaded, a difference is too large or not a number,
            or an output has another shape or is none of the model's.
    """
    outputs = _outputs(repo, inputs, headless=True)
    if of_head := expected.keys() - outputs.keys():  # logits, embeddings behind a projection
        with_head = _outputs(repo, inputs, headless=False)
        outputs |= {name: with_head[name] for name in of_head & with_head.keys()}
    if unknown := expected.keys() - outputs.keys():
        raise VerificationError(f"{repo}: gives no {min(unknown)}; it gives {', '.join(outputs)}")
    actual = {name: _comparable(name, outputs[name], inputs) for name in expected}
    for name, output in actual.items():
        if output.shape != expected[name].shape:
            shapes = f"{list(output.shape)}, and that of {against or 'the reference'} is {list(expected[name].shape)}"
            raise VerificationError(f"{repo}: the {name} is {shapes}")
    given: VerificationInputs = {
        "shapes": {name: list(tensor.shape) for name, tensor in inputs.items()},
        "seed": SEED,
    }
    return judge(repo, given, expected, actual, TOLERANCE, RELATIVE, against)


def _outputs(repo: Path, inputs: Mapping[str, Tensor], headless: bool) -> dict[str, Tensor]:
    kind = AutoModel if headless else getattr(transformers, cast(list[str], installed_config(repo).architectures)[0])
    model, loading = kind.from_pretrained(repo, dtype=torch.float32, output_loading_info=True, trust_remote_code=False)
    assert isinstance(model, PreTrainedModel)
    for what in ("missing_keys", "mismatched_keys"):
        if loading[what]:
            names = sorted(map(str, loading[what]))
            raise VerificationError(
                f"{repo}: {type(model).__name__} loads with {len(names)} {what.replace('_', ' ')}, {names[0]!r} first"
            )
    with torch.inference_mode():
        outputs = model.eval()(**inputs)
    return {name: output for name, output in outputs.items() if isinstance(output, Tensor)}


def _comparable(name: str, output: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """An output without what means nothing: dimensions of one after pooling, tokens of padding."""
    if name == _POOLED:
        return output.flatten(1)
    if name == _HIDDEN and "attention_mask" in inputs:
        return output * inputs["attention_mask"][..., None]
    return output
