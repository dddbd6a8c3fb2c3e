"""Recognises a legacy multimodal checkpoint (BERT + ViT) in any wrapping or naming, and reads its sizes."""

import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from math import isqrt
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedConfig, ViTConfig, ViTModel

from ....checkpoints.errors import LayoutError
from ....checkpoints.files import open_checkpoint
from ....checkpoints.finding.choice import ChosenWeights, WeightsWanted, choose
from ....checkpoints.finding.weights import LazyTensors, TensorWeight, Weight
from ....checkpoints.state_dicts import TOWERS, Shape, check_names, check_shapes, rename
from ....models.input_errors import one_line
from ..names import DUAL_ENCODER, MULTIMODAL_NAMES, OWN_FAMILIES
from .multimodal_sizes import text_sizes, vision_sizes

MULTIMODAL = MULTIMODAL_NAMES
TEMPERATURE = "temperature"

LEGACY_TEMPERATURE = 0.07  # of a network whose file does not hold it: the value at which its training began
_BUFFERS = {"text_encoder.embeddings.position_ids"}  # 0, 1, 2...; files of older releases hold it
_POOLER = re.compile(r"(text|visual)_encoder\.pooler\.")
_POSITIONS = "visual_encoder.embeddings.position_embeddings"
_HEAD_SIZE = 64  # in both towers; no shape tells it
_LEGACY_PROJECTION = 256
Heads = tuple[int | None, int | None]  # of the text and of the image tower; None: not told
# Parts of a ViT layer: the canonical name, which is transformers 4's → the name in transformers 5's memory.
_VIT_PARTS = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_CANONICAL_PARTS = {new: old for old, new in _VIT_PARTS.items()}
# Older files call the weight and bias of a LayerNorm so, as TensorFlow does.
_OLD_NORM = re.compile(r"((?:.*\.)?layer_?norm\w*)\.(gamma|beta)", re.IGNORECASE)
_NEW_NORM = {"gamma": "weight", "beta": "bias"}
_VIT_LAYER = re.compile(r"visual_encoder\.(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True)
class LegacyMultimodalCheckpoint:
    """A legacy multimodal checkpoint, read and recognised.

    Args:
        path: where it was read from.
        layout: "multimodal-encoder".
        wrapping: how the file holds the state dict, such as "training checkpoint" or "bare state dict".
        text_config: BERT's configuration: the given one, or inferred from the shapes.
        vision_config: ViT's configuration: the given one, or inferred from the shapes.
        projection_dim: size of the common space.
        tensors: canonical name (transformers 4's) → tensor, in the file's order, without poolers and buffers. The
            temperature is a scalar, also where the file holds it with shape [1]. Each is read when it is asked for.
        source_keys: canonical name → key in the file, for `tensors`.
        dropped: keys of the network that are not carried over: the unused poolers, BERT's counting buffer.
        parameter_names: canonical names of all parameters, poolers included, as the optimizer numbers them.
        optimizer_state: the optimizer's state dict, if the file holds one.
        metadata: the file's other entries (epoch, global_step, best_loss), without optimizer states.
        chosen: the weights that were taken, and what else is in the file.
        has_temperature: false if the file holds none, and 0.07 was taken.
        notes: what was renamed, one line each.
    """

    path: Path
    layout: str
    wrapping: str
    text_config: BertConfig
    vision_config: ViTConfig
    projection_dim: int
    tensors: LazyTensors
    source_keys: dict[str, str]
    dropped: list[str]
    parameter_names: list[str]
    optimizer_state: Mapping[str, object] | None
    metadata: dict[str, object]
    chosen: ChosenWeights
    has_temperature: bool = True
    notes: list[str] = field(default_factory=list)

    def has_network_order(self) -> bool:
        """See `has_network_order`."""
        return has_network_order(self)

    def model_name(self, canonical: str) -> str:
        """See `model_name`."""
        return model_name(canonical)

    def is_dropped(self, canonical: str) -> bool:
        """See `is_pooler`."""
        return is_pooler(canonical)

    def may_lack_state(self, canonical: str) -> bool:
        """Whether the legacy training never gave a parameter a gradient."""
        return canonical == TEMPERATURE or is_pooler(canonical)


def is_multimodal(chosen: ChosenWeights) -> bool:
    """Whether weights are a multimodal encoder's, or come closest to one, by their names."""
    return chosen.network.family in (MULTIMODAL, DUAL_ENCODER) or any(
        member.name.startswith(TOWERS) for member in chosen.network.members
    )


def read_multimodal_checkpoint(
    path: str | os.PathLike[str],
    text_config: PreTrainedConfig | None = None,
    vision_config: PreTrainedConfig | None = None,
    wanted: WeightsWanted | None = None,
) -> LegacyMultimodalCheckpoint:
    """Read any file with a legacy multimodal encoder, at any place in it, with names of transformers 4 or 5.

    Args:
        path: the file.
        text_config: BERT's configuration, where it is known: shapes do not tell heads, epsilon and activation.
            Without it, heads have 64 channels and the rest is BERT's default.
        vision_config: ViT's configuration, where it is known.
        wanted: the weights to take.

    Raises:
        CheckpointError: if the file cannot be read.
        LayoutError: if it is another architecture; if keys are missing, left over or of the wrong shape; if a
            configuration contradicts the file, or the number of heads is unknown.
    """
    chosen = choose(open_checkpoint(path), OWN_FAMILIES, wanted, [MULTIMODAL])
    return recognise_multimodal(chosen, text_config, vision_config)


def recognise_multimodal(
    chosen: ChosenWeights,
    text_config: PreTrainedConfig | None = None,
    vision_config: PreTrainedConfig | None = None,
    heads: Heads = (None, None),
) -> LegacyMultimodalCheckpoint:
    """Recognise a legacy multimodal encoder by the names and shapes of its tensors.

    Args:
        chosen: the weights of a file.
        text_config: see `read_multimodal_checkpoint`.
        vision_config: likewise.
        heads: attention heads of the text and of the image tower, where they are known.

    Raises:
        LayoutError: see `read_multimodal_checkpoint`.
    """
    path = chosen.path
    if chosen.network.family == DUAL_ENCODER:
        raise LayoutError(
            f"{path}: a {DUAL_ENCODER} of transformers, which needs no conversion: put it beside its config.json as"
            f" pytorch_model.bin, and load the folder with {DUAL_ENCODER}.from_pretrained"
        )
    named, keys = rename(path, chosen.network.members, _canonical_name)
    weights = {name: weight for name, weight in named.items() if not _is_unused(name)}
    source_keys = {name: keys[name] for name in weights}
    has_temperature = TEMPERATURE in weights
    if not has_temperature:
        weights[TEMPERATURE] = TensorWeight(torch.tensor(LEGACY_TEMPERATURE))
    text_config, vision_config, projection_dim = _matching_configs(
        path, weights, source_keys, text_config, vision_config, heads
    )
    old_norms = sum(bool(_OLD_NORM.fullmatch(member.name)) for member in chosen.network.members)
    return LegacyMultimodalCheckpoint(
        path=Path(path),
        layout=MULTIMODAL,
        wrapping=chosen.wrapping,
        text_config=text_config,
        vision_config=vision_config,
        projection_dim=projection_dim,
        tensors=LazyTensors(path, weights, _scalar),
        source_keys=source_keys,
        dropped=[keys[name] for name in named if name not in weights],
        parameter_names=[name for name in named if name not in _BUFFERS],
        optimizer_state=chosen.optimizer if isinstance(chosen.optimizer, Mapping) else None,
        metadata=chosen.metadata,
        chosen=chosen,
        has_temperature=has_temperature,
        notes=[f"{old_norms} gamma and beta of LayerNorm are named weight and bias"] if old_norms else [],
    )


def model_name(canonical: str) -> str:
    """The name of a parameter in transformers 5's memory, as `named_parameters` of the multimodal model gives it."""
    match = _VIT_LAYER.fullmatch(canonical)
    if not match:
        return canonical
    layer, part, kind = match.groups()
    return f"visual_encoder.layers.{layer}.{_VIT_PARTS.get(part, part)}.{kind}"


def is_pooler(canonical: str) -> bool:
    """Whether a parameter belongs to a pooler, which legacy files hold and no legacy code used."""
    return bool(_POOLER.match(canonical))


def has_network_order(source: LegacyMultimodalCheckpoint) -> bool:
    """Whether the file lists its parameters as the network defines them, because an optimizer numbers them so.

    Transformers 4 defines a ViT layer's norms after its feed-forward part, transformers 5 before it. A file that a tool
    sorted has neither order.
    """
    new = list(_network(source.text_config, source.vision_config, source.projection_dim))
    old: list[str] = []
    for layer, names in groupby(new, lambda name: match.group(1) if (match := _VIT_LAYER.fullmatch(name)) else None):
        old += sorted(names, key=lambda name: layer is not None and ".layernorm_" in name)
    present = set(source.parameter_names)
    return source.parameter_names in ([name for name in order if name in present] for order in (old, new))


def _canonical_name(name: str) -> str:
    if old := _OLD_NORM.fullmatch(name):
        name = f"{old[1]}.{_NEW_NORM[old[2].lower()]}"
    match = _VIT_LAYER.fullmatch(name)
    if not match:
        return name
    layer, part, kind = match.groups()
    return f"visual_encoder.encoder.layer.{layer}.{_CANONICAL_PARTS.get(part, part)}.{kind}"


def _is_unused(name: str) -> bool:
    return is_pooler(name) or name in _BUFFERS


def _scalar(name: str, tensor: Tensor) -> Tensor:
    return tensor.reshape(()) if name == TEMPERATURE and tensor.shape == (1,) else tensor


def _matching_configs(
    path: str | os.PathLike[str],
    weights: Mapping[str, Weight],
    source_keys: Mapping[str, str],
    text_config: PreTrainedConfig | None,
    vision_config: PreTrainedConfig | None,
    heads: Heads,
) -> tuple[BertConfig, ViTConfig, int]:
    """The configurations whose network has exactly these tensors."""
    shapes = {name: weight.shape for name, weight in weights.items()}
    if shapes.get(TEMPERATURE) == (1,):
        shapes[TEMPERATURE] = ()
    of_text, of_vision = text_sizes(shapes), vision_sizes(shapes)
    text = _tower_config(path, "text", BertConfig, of_text, text_config, heads[0])
    vision = _tower_config(path, "vision", ViTConfig, of_vision, vision_config, heads[1])
    projection_dim = (shapes.get("text_projection.weight") or (0,))[0] or _LEGACY_PROJECTION
    try:
        network = _network(text, vision, projection_dim)
    except (ValueError, TypeError, ArithmeticError, RuntimeError, ImportError) as error:
        raise LayoutError(
            f"{path}: no BERT and ViT can be built from these configurations ({one_line(error)})"
        ) from error

    expected = {name: shape for name, shape in network.items() if not is_pooler(name)}
    if TEMPERATURE not in source_keys:
        del expected[TEMPERATURE]
    check_names(path, source_keys, expected, "not a whole legacy multimodal encoder")
    positions = shapes[_POSITIONS]
    if len(positions) == 3 and isqrt(max(positions[1] - 1, 0)) ** 2 != positions[1] - 1:
        raise LayoutError(
            f"{path}: {source_keys[_POSITIONS]!r} has shape {list(positions)}, expected the class token's position and"
            " those of a square grid of patches"
        )
    check_shapes(path, shapes, source_keys, expected)
    towers = (("text", text, text_config, heads[0]), ("vision", vision, vision_config, heads[1]))
    for tower, config, given, stated in towers:
        if given is None and stated is None and config.hidden_size % _HEAD_SIZE:
            raise LayoutError(
                f"{path}: the {tower} tower's hidden size {config.hidden_size} is not a multiple of {_HEAD_SIZE}, so"
                f" its number of attention heads is unknown; give it with --attention-heads, or the tower's own"
                f" configuration with --{tower}-model"
            )
    return text, vision, projection_dim


_Config = TypeVar("_Config", bound=PreTrainedConfig)


def _tower_config(
    path: str | os.PathLike[str],
    tower: str,
    kind: type[_Config],
    sizes: Mapping[str, int],
    given: PreTrainedConfig | None,
    heads: int | None,
) -> _Config:
    """The given configuration, if it has these sizes; without one, a configuration of these sizes."""
    if given is None:
        hidden_size = sizes.get("hidden_size", kind().hidden_size)
        if heads is not None:
            if hidden_size % heads:
                raise LayoutError(
                    f"{path}: --attention-heads {heads}: the {tower} tower's hidden size {hidden_size} is not a"
                    " multiple"
                )
            return kind.from_dict({**sizes, "num_attention_heads": heads})
        # Any number of heads gives these shapes; an unknown one is refused after the shapes are checked.
        heads = hidden_size // _HEAD_SIZE if hidden_size % _HEAD_SIZE == 0 else 1
        return kind.from_dict({**sizes, "num_attention_heads": heads})
    if getattr(given, "model_type", None) != kind.model_type:
        raise LayoutError(
            f"{path}: the {tower} tower is {kind.model_type}, the given {tower} configuration is of"
            f" {getattr(given, 'model_type', None) or type(given).__name__}; give that of the tower's own model"
        )
    if heads not in (None, given.num_attention_heads):
        raise LayoutError(
            f"{path}: --attention-heads {heads}: --{tower}-model says {given.num_attention_heads}; leave one out"
        )
    for name, size in sizes.items():
        stated = getattr(given, name)
        if stated not in (size, (size, size), [size, size]):
            raise LayoutError(f"{path}: the {tower} configuration says {name} {stated}, the file {size}")
    return cast(_Config, given)  # by its model_type


def _network(text_config: BertConfig, vision_config: ViTConfig, projection_dim: int) -> dict[str, Shape]:
    """Canonical name → shape of every parameter of the legacy network, in the order of transformers 5."""
    with torch.device("meta"):
        towers = {
            "text_encoder": BertModel(copy.deepcopy(text_config)),
            "visual_encoder": ViTModel(copy.deepcopy(vision_config)),
        }
    shapes: dict[str, Shape] = {TEMPERATURE: ()}
    for prefix, tower in towers.items():
        shapes |= {_canonical_name(f"{prefix}.{name}"): tuple(p.shape) for name, p in tower.named_parameters()}
    for name, config in (("text_projection", text_config), ("visual_projection", vision_config)):
        shapes |= {f"{name}.weight": (projection_dim, config.hidden_size), f"{name}.bias": (projection_dim,)}
    return shapes
