"""What a network gives for inputs, by the names that transformers has for it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .refused import Refused

Inputs = Mapping[str, Tensor]


def outputs_of(request: Mapping[str, Any], network: nn.Module, inputs: Inputs, answer: dict[str, Any]) -> Inputs:
    """Run the network once.

    Args:
        request: says what of its output is wanted: `embedding`, expressions of which the last is the embedding [B, D]
            and the first that is a tensor the hidden state; or `outputs`, name → expression.
        network: in the mode of evaluation.
        inputs: by the names of `forward`, the main one first.
        answer: gets the expressions and the size of the embedding.

    Raises:
        Refused: if an expression does not fit the output.
    """
    (_, main), *others = ((name, tensor.clone()) for name, tensor in inputs.items())
    with torch.inference_mode():
        output = network(main, **dict(others))
    if "outputs" in request:
        return _named(request, output)
    expressions = request["embedding"] or _choose(output)
    values = [_evaluated("--embedding", text, output) for text in expressions]
    embedding = values[-1]
    if not isinstance(embedding, Tensor) or embedding.ndim != 2 or len(embedding) != len(main):
        raise Refused(f"--embedding {expressions[-1]} is {shown(embedding)}, expected [{len(main)}, D]")
    number = next(number for number, value in enumerate(values) if isinstance(value, Tensor))
    state = values[number]
    assert isinstance(state, Tensor)
    answer |= {"embedding": expressions[-1], "state": expressions[number], "size": embedding.shape[1]}
    return {"last_hidden_state": state.float(), "pooler_output": embedding.float()}


def _named(request: Mapping[str, Any], output: object) -> dict[str, Tensor]:
    """Outputs by the names of transformers: as a person says them, else by their form."""
    if not (names := request["outputs"]):
        if not isinstance(output, Tensor):
            raise Refused(
                "say what its output is, such as --original-output pooler_output='output[0]': it returns"
                f" {shown(output)}"
            )
        names = {request["flat"] if output.ndim == 2 else "last_hidden_state": "output"}
    found = {name: _evaluated("--original-output", text, output) for name, text in names.items()}
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise Refused(f"--original-output {name}={names[name]} is {shown(value)}, expected a tensor")
    return {name: value.float() for name, value in found.items() if isinstance(value, Tensor)}


def _evaluated(option: str, text: str, output: object) -> object:
    try:
        # The expression was checked: it takes items, attributes and methods of the output.
        return eval(text, {"__builtins__": {}}, {"output": output})
    except Exception as error:
        raise Refused(f"{option} {text}: {error} (the network returns {shown(output)})") from None


def _choose(output: object) -> list[str]:
    if isinstance(output, Tensor) and output.ndim == 2:
        return ["output"]
    raise Refused(f"say which part of the output is the embedding, with --embedding: it returns {shown(output)}")


def shown(value: object) -> str:
    """What a network returns, for a message."""
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of " + ", ".join(f"{name!r}: {shown(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of " + ", ".join(shown(one) for one in value)
    return f"a {type(value).__name__}"
