"""What a network consists of, and inputs for it."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

SEED = 0


def describe(network: nn.Module) -> dict[str, Any]:
    """The names, shapes and types of the weights, which of them are one, what `forward` takes, and tables of words."""
    first: dict[int, str] = {}
    tied = {}
    for name, weight in [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]:
        if first.setdefault(id(weight), name) != name:
            tied[name] = first[id(weight)]
    weights = {
        name: None
        if torch.nn.parameter.is_lazy(tensor)
        else [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in network.state_dict(keep_vars=True).items()
        if isinstance(tensor, Tensor)
    }
    return {
        "weights": weights,
        "tied": {name: own for name, own in tied.items() if name in weights},
        "takes": _takes(network),
        "is_lazy": any(one is None for one in weights.values()),
        "tables": [[module.num_embeddings, module.padding_idx] for module in _tables(network)],
    }


def _takes(network: nn.Module) -> list[str]:
    parameters = [*inspect.signature(network.forward).parameters.values()]
    named = [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return named or [one.name for one in parameters if one.kind is one.VAR_POSITIONAL]


def _tables(network: nn.Module) -> list[nn.Embedding]:
    return [module for module in network.modules() if isinstance(module, nn.Embedding)]


def make_inputs(network: nn.Module, inputs: Sequence[Mapping[str, Any]], batch: int) -> list[Tensor]:
    """Seeded inputs: normal numbers, numbers of words that the network's first table has, masks that hide nothing."""
    generator = torch.Generator().manual_seed(SEED + batch)
    tables = [table.num_embeddings for table in _tables(network)]
    made = []
    for one in inputs:
        shape = [batch, *one["shape"][1:]]
        dtype = getattr(torch, one["dtype"])
        if one["dtype"] == "float32" and not one["name"].endswith("mask"):
            made.append(torch.randn(shape, generator=generator))
        elif one["name"].endswith("mask"):
            made.append(torch.ones(shape, dtype=dtype))
        elif one["dtype"] == "uint8":
            made.append(torch.randint(0, 256, shape, generator=generator).to(dtype))
        else:
            highest = min(one["below"] or tables[0] if tables else 2, tables[0] if tables else 2)
            made.append(torch.randint(0, highest, shape, generator=generator).to(dtype))
    return made
