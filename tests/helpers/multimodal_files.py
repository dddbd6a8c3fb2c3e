"""Tiny legacy multimodal checkpoints in every wrapping, naming and way of saving, with a real AdamW's state."""

import re
from functools import cache
from pathlib import Path

import torch

from tests.helpers.golden import golden_state_dict
from tests.helpers.legacy_files import write_legacy

_KEYS = Path(__file__).parents[1] / "data" / "multimodal_tiny_keys.tsv"
POSITION_IDS = "text_encoder.embeddings.position_ids"


def multimodal_state():
    """The state dict behind the tiny goldens: transformers 4's names, poolers, no buffer."""
    return dict(_golden_state())


@cache
def _golden_state():
    return golden_state_dict(_KEYS)


def without_poolers(state):
    return {name: tensor for name, tensor in state.items() if ".pooler." not in name}


def with_position_ids(state):
    """As older releases of transformers 4 saved it: the buffer comes after the embeddings' parameters."""
    result = {}
    for name, tensor in state.items():
        result[name] = tensor
        if name == "text_encoder.embeddings.LayerNorm.bias":
            length = len(state["text_encoder.embeddings.position_embeddings.weight"])
            result[POSITION_IDS] = torch.arange(length)[None]
    return result


def with_new_names(state):
    """As transformers 5 names and orders it in memory: a ViT layer's norms before its feed-forward part."""
    names = list(state)

    def place(name):
        match = re.match(r"(visual_encoder\.encoder\.layer\.\d+\.)(attention|layernorm|)", name)
        if not match:
            return names.index(name), 0
        first = next(number for number, other in enumerate(names) if other.startswith(match.group(1)))
        return first, ["attention", "layernorm", ""].index(match.group(2))

    return {_new_name(name): state[name] for name in sorted(names, key=place)}


def _new_name(name):
    if not name.startswith("visual_encoder.encoder.layer."):
        return name
    for old, new in (
        ("encoder.layer.", "layers."),
        ("attention.query", "q_proj"),
        ("attention.key", "k_proj"),
        ("attention.value", "v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    ):
        name = name.replace(old, new)
    return name


# Name → what becomes of the state dict with transformers 4's names.
NAMINGS = {
    "version 4": dict,
    "old version 4": with_position_ids,
    "version 5": with_new_names,
    "without poolers": without_poolers,
    "version 5 without poolers": lambda state: with_new_names(without_poolers(state)),
}


def has_gradient(name):
    """Whether legacy training ever gave a parameter a gradient."""
    return name != "temperature" and ".pooler." not in name


def adamw_state(state, steps=3, trained=has_gradient, **options):
    """The state dict of a torch AdamW over the parameters of a state dict, after steps with made-up gradients."""
    parameters = {k: torch.nn.Parameter(v.detach().float().clone()) for k, v in state.items() if v.is_floating_point()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-4, weight_decay=0.01, **options)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        for name, parameter in parameters.items():
            if trained(name):
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return optimizer.state_dict()


def _training(state, number, **others):
    return {
        "epoch": 2,
        "global_step": 30,
        "model_state_dict": state,
        "optimizer_state_dict": adamw_state(state),
        **others,
    }


# Name → what is saved, from the state dict and what makes numbers of the metadata.
WRAPPINGS = {
    "training": _training,
    "best": lambda state, number: _training(state, number, best_loss=number(0.125)),
    "bare": lambda state, number: state,
}


def write_multimodal(path, wrapping="best", state=None, **saving):
    """Save a tiny checkpoint as `write_legacy` does; returns its path."""
    return write_legacy(path, wrapping, multimodal_state() if state is None else state, wrappings=WRAPPINGS, **saving)
