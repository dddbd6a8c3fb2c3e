"""The legacy multimodal network (BERT and ViT) as plain function calls over the tensors of its state dict.

This is the independent path of the verification. It was written from the facts of the legacy network, uses
torch.nn.functional alone, and shares no module with the models or transformers. Tensors are looked up by their legacy
(transformers 4) names; each is converted to float32 only while it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference_depth import LegacyTensors


@dataclass(frozen=True)
class TowerSettings:
    """Settings of a tower that no shape tells; the defaults are those of BERT-base and ViT-B/16.

    Args:
        head_size: width of one attention head.
        eps: epsilon of every layer norm.
    """

    head_size: int = 64
    eps: float = 1e-12


def embed_text(
    tensors: Mapping[str, Tensor], input_ids: Tensor, attention_mask: Tensor, settings: TowerSettings
) -> Tensor:
    """Token ids [B, T] and their mask [B, T] → embeddings [B, D] of length 1."""
    p = LegacyTensors(tensors, "text_encoder.")
    embeddings = p["embeddings"]
    x = embeddings.get("word_embeddings.weight")[input_ids]
    x = x + embeddings.get("position_embeddings.weight")[: input_ids.shape[1]]
    x = x + embeddings.get("token_type_embeddings.weight")[0]
    x = _layer_norm(embeddings["LayerNorm"], x, settings)
    for layer in _layers(p):
        attended = _attention(layer["attention"]["self"], x, settings, attention_mask.bool())
        x = x + layer["attention"]["output"].linear(attended, "dense")
        x = _layer_norm(layer["attention"]["output"]["LayerNorm"], x, settings)
        x = _layer_norm(layer["output"]["LayerNorm"], x + _feed_forward(layer, x), settings)
    return _project(tensors, "text_projection", x)


def embed_images(tensors: Mapping[str, Tensor], pixel_values: Tensor, settings: TowerSettings) -> Tensor:
    """Images [B, C, S, S] as the processor gives them → embeddings [B, D] of length 1."""
    p = LegacyTensors(tensors, "visual_encoder.")
    embeddings = p["embeddings"]
    patches = embeddings["patch_embeddings"]["projection"]
    weight = patches.get("weight")
    x = F.conv2d(pixel_values, weight, patches.bias(), stride=weight.shape[-1]).flatten(2).mT
    x = torch.cat([embeddings.get("cls_token").expand(len(x), -1, -1), x], dim=1)
    x = x + embeddings.get("position_embeddings")
    for layer in _layers(p):
        before = _layer_norm(layer["layernorm_before"], x, settings)
        attended = _attention(layer["attention"]["attention"], before, settings)
        x = x + layer["attention"]["output"].linear(attended, "dense")
        x = x + _feed_forward(layer, _layer_norm(layer["layernorm_after"], x, settings))
    x = _layer_norm(p["layernorm"], x, settings)
    return _project(tensors, "visual_projection", x)


def _layers(p: LegacyTensors) -> list[LegacyTensors]:
    layers = p["encoder"]["layer"]
    number = 0
    while f"{number}.output.dense.weight" in layers:
        number += 1
    return [layers[index] for index in range(number)]


def _attention(p: LegacyTensors, x: Tensor, settings: TowerSettings, mask: Tensor | None = None) -> Tensor:
    """Let every token attend to every token that the mask [B, T] keeps."""
    heads = x.shape[-1] // settings.head_size
    query, key, value = (
        p.linear(x, name).unflatten(-1, (heads, settings.head_size)).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    scores = query @ key.mT / settings.head_size**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def _feed_forward(layer: LegacyTensors, x: Tensor) -> Tensor:
    return layer["output"].linear(F.gelu(layer["intermediate"].linear(x, "dense")), "dense")


def _layer_norm(p: LegacyTensors, x: Tensor, settings: TowerSettings) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], p.get("weight"), p.get("bias"), settings.eps)


def _project(tensors: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Project the first token's features, without a pooler, and scale them to length 1."""
    return F.normalize(LegacyTensors(tensors).linear(x[:, 0], name), dim=-1)
