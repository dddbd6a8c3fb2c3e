"""A person's own network as the witness of a conversion, in the place of our reference: what it gives for inputs."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..checkpoints.files import open_checkpoint
from ..checkpoints.finding.choice import WeightsWanted
from .code.target import Target
from .embedding import check_expression
from .errors import AdoptError
from .prepared import Arguments, prepare
from .processes import OriginalProcess
from .weights import NetworkNames, find_weights, shapes_of

_FORM = "expected NAME=EXPRESSION, such as pooler_output='output[:, 0]'"


@dataclass(frozen=True)
class OwnNetwork:
    """A class that computes what a checkpoint's network computes; see `conversion.encoders.verification.Witness`.

    Args:
        target: the class.
        arguments: of its constructor.
        outputs: name that transformers has for an output → an expression over `output`; empty where the class returns
            one tensor: [B, D] is the logits of a classifier, else the pooled output; another one is the hidden state.
        weights: which weights of the file.
    """

    target: Target
    arguments: Arguments = field(default_factory=Arguments)
    outputs: Mapping[str, str] = field(default_factory=dict)
    weights: WeightsWanted = field(default_factory=WeightsWanted)

    def against(self, checkpoint: Path) -> str:
        """What the report says of it."""
        name = ".".join((self.target.name, *self.target.attributes))
        return f"{name} of {self.target.file.name} with the weights of {checkpoint.name}, float32, CPU"

    def computed(self, checkpoint: Path, inputs: Mapping[str, Tensor], *, is_classifier: bool) -> dict[str, Tensor]:
        """Run the class, in a process of its own, with the file's weights.

        Args:
            checkpoint: the file.
            inputs: by the names of transformers, the main one first.
            is_classifier: whether the model that is compared has logits.

        Returns:
            Its outputs, by the names of transformers, in float32.

        Raises:
            InputError: if the code, the file or an option cannot be used.
        """
        file = open_checkpoint(checkpoint)
        prepared = prepare(self.target, file, self.arguments)
        with tempfile.TemporaryDirectory(prefix="original-") as folder:
            work = Path(folder)
            prepared.write_request(work)
            with OriginalProcess(work) as original:
                described = original.answer()
                names = NetworkNames(shapes_of(described["weights"]), described["tied"])
                found = find_weights(file, prepared.part.name, names, self.weights, self.target.attributes)
                save_file(found.tensors, work / "weights.safetensors")
                takes = _by_names(inputs, described["takes"])
                given = {f"0.{one}": inputs[name].contiguous().clone() for name, one in takes.items()}
                save_file(given, work / "given.safetensors")
                asked = [
                    {"name": name, "takes": one, "shape": list(inputs[name].shape), "dtype": "float32", "below": None}
                    for name, one in takes.items()
                ]
                batch = len(next(iter(inputs.values())))
                flat = "logits" if is_classifier else "pooler_output"
                original.answer({"inputs": asked, "batches": [batch], "outputs": dict(self.outputs), "flat": flat})
            outputs = load_file(work / "expected.safetensors")
        return {name.removeprefix("0."): tensor.clone() for name, tensor in outputs.items()}


def parse_outputs(texts: list[str]) -> dict[str, str]:
    """Read `--original-output`: NAME=EXPRESSION.

    Raises:
        InputError: if one has another form, or is no expression over `output`.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, expression = text.partition("=")
        if not sign or not name.isidentifier():
            raise AdoptError(name=f"--original-output {text}", reason=_FORM)
        check_expression(expression, "--original-output")
        found[name] = expression.strip()
    return found


def _by_names(inputs: Mapping[str, Tensor], takes: list[str]) -> dict[str, str]:
    """Name of transformers → that of `forward`: the same, one that ends alike for a mask, or the next one.

    An input that `forward` does not take is left out: what it changes shows in the comparison.
    """
    main, *others = inputs
    if not takes:
        raise AdoptError(name="--original", reason="its forward takes no input by name")
    found = {main: takes[0]}
    free = takes[1:]
    for name in others:
        same = [one for one in free if one == name or (name.endswith("mask") and one.endswith("mask"))]
        place = same or ([free[0]] if len(inputs) == 2 and free and not name.endswith("mask") else [])
        if place:
            found[name] = place[0]
            free.remove(place[0])
    return found
