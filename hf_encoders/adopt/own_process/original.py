"""Builds the network of somebody's own class, in a process of its own, and runs it: `main()`, with a folder in argv.

FOLDER/request.json says what to build. The answers are lines of JSON: first what the network consists of; then, once
a line on stdin says that FOLDER/weights.safetensors is there, what it gives. What the code prints goes to stderr.
"""

import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .call import Call, settings_class
from .dependence import neighbours, padding
from .network import SEED, describe, make_inputs
from .outputs import Inputs, outputs_of
from .reads import Reads, said
from .refused import Refused


def find_class(request: dict[str, Any]) -> type[nn.Module]:
    """Import the class from where it is; from its copy, where its file needs or does what the class does not."""
    places = [(request["roots"], request["module"]), ([request["copies"]], request["copy"])]
    for number, (roots, module) in enumerate(places):
        sys.path[:0] = roots
        sys.argv[1:] = []  # they are not the project's
        try:
            found = getattr(importlib.import_module(module), request["class"])
            break
        except ModuleNotFoundError as error:
            library = (error.name or "").split(".")[0]
            if number or library in request["libraries"]:
                raise Refused(f"{request['file']}: needs {library}, which is not installed") from None
        except SystemExit:  # such as argparse's
            if number:
                raise Refused(f"{request['file']}: ends the process when it is imported") from None
        except Exception as error:
            raise Refused(f"{request['file']} cannot be imported: {said(request['roots'], error)}") from None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise Refused(f"{request['file']}: {request['class']} is no nn.Module")
    return found


def make(request: dict[str, Any], call: Call) -> nn.Module:
    """Make the network.

    Raises:
        Refused: if its constructor fails, reads files or asks the network.
    """
    torch.manual_seed(SEED)
    reads = Reads([*request["roots"], request["copies"]], "the constructor")
    try:
        with reads:
            network = call.make()
    except (Exception, SystemExit) as error:
        why = reads.found or f"{request['class']} cannot be made: {said(request['roots'], error)}"
        raise Refused(why) from None
    if reads.found:
        raise Refused(reads.found)
    return network


def run(request: dict[str, Any], network: nn.Module, folder: Path) -> dict[str, Any]:
    """Run the network on inputs of each size, twice, and write inputs and outputs down."""
    state_dict = load_file(folder / "weights.safetensors")
    state_dict |= {name: state_dict[first] for name, first in describe(network)["tied"].items() if first in state_dict}
    network.load_state_dict(state_dict)
    network.eval()
    given = load_file(folder / "given.safetensors") if (folder / "given.safetensors").is_file() else {}
    saved: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}
    answer: dict[str, Any] = {}
    for number, batch in enumerate(request["batches"]):
        made = zip(request["inputs"], make_inputs(network, request["inputs"], batch), strict=True)
        inputs = {one["takes"]: given.get(f"{number}.{one['takes']}", tensor) for one, tensor in made}
        saved |= {f"{number}.{one['name']}": inputs[one["takes"]].clone() for one in request["inputs"]}
        inputs = _as_taken(request, inputs)
        first, second = (_seeded(seed, request, network, inputs, answer) for seed in (1, 2))
        _check_same(request, first, second)
        expected |= {f"{number}.{name}": tensor.contiguous().clone() for name, tensor in first.items()}
    if "embedding" in request:
        _look_around(request, network, inputs, answer)
    save_file(saved, folder / "inputs.safetensors")
    save_file(expected, folder / "expected.safetensors")
    return answer


def _as_taken(request: Mapping[str, Any], inputs: Inputs) -> dict[str, Tensor]:
    """The inputs as `forward` takes them: a mask may be turned round."""
    turned = {one["takes"] for one in request["inputs"] if one.get("is_inverted")}
    return {name: (tensor == 0).to(tensor.dtype) if name in turned else tensor for name, tensor in inputs.items()}


def _seeded(
    seed: int, request: Mapping[str, Any], network: nn.Module, inputs: Inputs, answer: dict[str, Any]
) -> Inputs:
    torch.manual_seed(seed)
    return outputs_of(request, network, inputs, answer)


def _check_same(request: Mapping[str, Any], first: Inputs, second: Inputs) -> None:
    for name, tensor in first.items():
        what = name.replace("_", " ")
        if not tensor.isfinite().all():
            masks = [one["takes"] for one in request["inputs"] if one["name"].endswith("mask")]
            about = (
                f"; is 1 in {masks[0]} a word? --input '~{masks[0]}=...' takes it the other way round" if masks else ""
            )
            raise Refused(f"{request['class']} gives NaN or infinity in the {what}{about}")
        if not torch.equal(tensor, second[name]):
            spread = (tensor - second[name]).abs().max().item()
            raise Refused(
                f"{request['class']} is not deterministic: two runs of one input differ by {spread:.1e} in the {what};"
                " is dropout left on?"
            )


def _look_around(request: Mapping[str, Any], network: nn.Module, inputs: Inputs, answer: dict[str, Any]) -> None:
    """Say whether an embedding depends on the inputs beside it, and on words that a mask hides."""

    def run(inputs: Inputs) -> Inputs:
        return _seeded(1, request, network, inputs, {})

    answer["neighbours"] = neighbours(lambda inputs: run(inputs)["pooler_output"], inputs)
    masks = [one for one in request["inputs"] if one["name"] == "attention_mask"]
    differences = [padding(run, inputs, one["takes"], bool(one.get("is_inverted"))) for one in masks]
    answer["padding"] = next((one for one in differences if one is not None), None)


def main() -> NoReturn:
    """Answer with lines of JSON on what was stdout."""
    folder = Path(sys.argv[1])
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    status = 0

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        settings = settings_class(request["settings"])
        call = Call(find_class(request), request["arguments"], request["loose"], settings)
        network = make(request, call)
        answer({"arguments": call.arguments, "order": call.order, "makers": call.makers, **describe(network)})
        if line := sys.stdin.readline():
            request |= json.loads(line)
            try:
                answer(run(request, network, folder))
            except Refused:
                raise
            except Exception as error:
                raise Refused(f"{request['class']} cannot be run: {said(request['roots'], error)}") from None
    except Refused as error:
        answer({"error": str(error)})
        status = 1
    sys.exit(status)
